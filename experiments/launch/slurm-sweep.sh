#!/usr/bin/env bash
# An ablation on a SLURM cluster: each task of the array runs all variants of a plan with one seed.
#   sbatch --array=0-4 experiments/launch/slurm-sweep.sh
#   sagan ablate attention-kinds --size gpu --report_only   # afterwards: tables, plots and report of all seeds
# The array's numbers are the plan's seeds. Options of `sagan ablate` may follow.
#SBATCH --job-name=sagan-sweep
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -euo pipefail

PLAN=${PLAN:-attention-kinds}
SIZE=${SIZE:-gpu}

srun sagan ablate "$PLAN" --size "$SIZE" --seeds "[$SLURM_ARRAY_TASK_ID]" "$@" &
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
