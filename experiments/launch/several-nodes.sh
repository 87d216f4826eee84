#!/usr/bin/env bash
# Several machines: run this once on each. All must reach MASTER, and the run directory of the one that becomes rank 0
# must still be there after a restart: put it on a shared disk, if there is one.
set -euo pipefail

PRESET=${PRESET:-imagenet}
PROCESSES=${PROCESSES:-gpu}            # on each machine
NODES=${NODES:-2}                      # 1:4 starts with one machine, and takes up to four as they come and go
MASTER=${MASTER:-node-1.example:29500} # any one of the machines, with a free port
RUN=${RUN:-sagan}                      # the same name on all machines

exec torchrun --nnodes "$NODES" --nproc_per_node "$PROCESSES" --max-restarts 3 \
    --rdzv_backend c10d --rdzv_endpoint "$MASTER" --rdzv_id "$RUN" -m sagan train "$PRESET" "$@"
