#!/usr/bin/env bash
# An ablation on a SLURM cluster: each task of the array runs all variants of a plan with one seed.
#   sbatch --array=0-4 experiments/launch/slurm-sweep.sh
#   sagan ablate attention-kinds --size gpu --report_only   # afterwards: tables, plots and report of all seeds
# The array's numbers are the plan's seeds. Options of `sagan ablate` may follow.
#SBATCH --job-name=sagan-sweep
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}  # srun does not take over --cpus-per-task by itself

PLAN=${PLAN:-attention-kinds}
SIZE=${SIZE:-gpu}

# Two minutes before the time limit SLURM sends USR1, and would not start the job again by itself. So stop the step, which
# saves itself, and put the job back into the queue. `scancel` sends TERM: the run is saved, and the job ends.
step=
stop() {
    [ -z "$step" ] || { kill -TERM "$step" && wait "$step"; } || true
}
trap 'stop; scontrol requeue "$SLURM_JOB_ID"; exit 0' USR1
trap 'stop; exit 143' TERM

srun sagan ablate "$PLAN" --size "$SIZE" --seeds "[$SLURM_ARRAY_TASK_ID]" "$@" &
step=$!
wait "$step"
