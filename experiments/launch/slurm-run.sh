#!/usr/bin/env bash
# One run on several machines of a SLURM cluster: sbatch experiments/launch/slurm-run.sh [options of sagan train]
# Edit the lines below; --time may be short, because --requeue starts the job again and the run resumes.
#SBATCH --job-name=sagan
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

PRESET=${PRESET:-imagenet}
PROCESSES=${PROCESSES:-gpu}

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
exec srun torchrun --nnodes "$SLURM_NNODES" --nproc_per_node "$PROCESSES" --max-restarts 3 \
    --rdzv_backend c10d --rdzv_endpoint "$head:29500" --rdzv_id "$SLURM_JOB_ID" -m sagan train "$PRESET" "$@"
