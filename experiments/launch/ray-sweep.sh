#!/usr/bin/env bash
# An ablation on a Ray cluster whose machines see the same folders. Run this on one of them.
# Start the cluster first: `ray start --head` here, `ray start --address=HERE:6379` on the others.
set -euo pipefail

PLAN=${PLAN:-attention-kinds}
SIZE=${SIZE:-gpu}
JOBS=${JOBS:-8} # runs at once on each machine

export RAY_ADDRESS=${RAY_ADDRESS:-auto}
exec sagan ablate "$PLAN" --size "$SIZE" --executor ray --jobs "$JOBS" "$@"
