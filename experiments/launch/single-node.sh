#!/usr/bin/env bash
# One machine: a process for each of its GPUs. On a CPU, say how many: PROCESSES=2 experiments/launch/single-node.sh
# Options of `sagan train` may follow. A killed process restarts the run from its newest checkpoint.
set -euo pipefail

PRESET=${PRESET:-cifar10}
PROCESSES=${PROCESSES:-gpu}

exec torchrun --standalone --nproc_per_node "$PROCESSES" --max-restarts 3 -m sagan train "$PRESET" "$@"
