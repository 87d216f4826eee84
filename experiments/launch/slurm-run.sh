#!/usr/bin/env bash
# One run on several machines of a SLURM cluster: sbatch experiments/launch/slurm-run.sh [options of sagan train]
# Edit the lines below; --time may be short, because the job puts itself back into the queue and the run resumes.
#SBATCH --job-name=sagan
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -euo pipefail

PRESET=${PRESET:-imagenet}
PROCESSES=${PROCESSES:-gpu}

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes "$SLURM_NNODES" --nproc_per_node "$PROCESSES" --max-restarts 3 \
    --rdzv_backend c10d --rdzv_endpoint "$head:29500" --rdzv_id "$SLURM_JOB_ID" -m sagan train "$PRESET" "$@" &
step=$!

# Two minutes before the time limit SLURM signals this script, and would not start it again by itself. So stop the step,
# which saves itself, and put the job back into the queue.
requeue() {
    kill -TERM "$step"
    wait "$step" || true
    scontrol requeue "$SLURM_JOB_ID"
}
trap requeue TERM
wait "$step"
