#!/usr/bin/env bash
# One run on several machines of a SLURM cluster: sbatch experiments/launch/slurm-run.sh [options of sagan train]
# Edit the lines below; --time may be short, because the job puts itself back into the queue and the run resumes.
#SBATCH --job-name=sagan
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}  # srun does not take over --cpus-per-task by itself

PRESET=${PRESET:-imagenet}
PROCESSES=${PROCESSES:-gpu}

# Two minutes before the time limit SLURM sends USR1, and would not start the job again by itself. So stop the step, which
# saves itself, and put the job back into the queue. `scancel` sends TERM: the run is saved, and the job ends.
step=
stop() {
    [ -z "$step" ] || { kill -TERM "$step" && wait "$step"; } || true
}
trap 'stop; scontrol requeue "$SLURM_JOB_ID"; exit 0' USR1
trap 'stop; exit 143' TERM

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes "$SLURM_NNODES" --nproc_per_node "$PROCESSES" --max-restarts 3 \
    --rdzv_backend c10d --rdzv_endpoint "$head:29500" --rdzv_id "$SLURM_JOB_ID" -m sagan train "$PRESET" "$@" &
step=$!
wait "$step"
