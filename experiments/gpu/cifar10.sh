#!/bin/sh
# Trains CIFAR-10 presets to their end in pieces of MINUTES, then scores them. Run it again to continue.
#
#   MINUTES=9 experiments/gpu/cifar10.sh                       # the next piece
#   PRESETS=cifar10 ARGUMENTS="--training.steps 1000" ...      # another preset, further options of `sagan train`
#
# Exit code 0: everything is trained and scored. 75: run it again. Anything else: an error.
set -u
MINUTES=${MINUTES:-9} PRESETS=${PRESETS:-cifar10 cifar10-sngan} ARGUMENTS=${ARGUMENTS:-} SAGAN=${SAGAN:-$(command -v sagan || echo .venv/bin/sagan)}
RUNS=${RUNS:-runs} NUMBER=${NUMBER:-50000} EXTRACTORS=${EXTRACTORS:-efficientnet-lite0 inception}
end=$(($(date +%s) + MINUTES * 60))

for preset in $PRESETS; do
    left=$((end - $(date +%s)))
    [ "$left" -gt 5 ] || exit 75
    # Evaluations during training need no download. `timeout` ends with SIGTERM, on which a run saves its last step. A finished run returns at once.
    # shellcheck disable=SC2086
    timeout --kill-after 60 "$left" $SAGAN train "$preset" --run_dir "$RUNS/$preset" \
        --evaluation.extractor.name efficientnet-lite0 $ARGUMENTS
    code=$?
    [ "$code" -eq 124 ] || [ "$code" -eq 137 ] && exit 75
    [ "$code" -eq 0 ] || exit "$code"
    for extractor in $EXTRACTORS; do
        scores=$RUNS/$preset/scores-$extractor.txt
        [ -s "$scores" ] && continue
        left=$((end - $(date +%s)))
        [ "$left" -gt 5 ] || exit 75
        # shellcheck disable=SC2086
        timeout "$left" $SAGAN evaluate "$RUNS/$preset" --extractor.name "$extractor" --num_samples "$NUMBER" \
            >"$scores.part" 2>"$scores.errors"
        code=$?
        cat "$scores.errors" >&2
        if [ "$code" -eq 124 ]; then
            [ "$left" -lt $((MINUTES * 30)) ] && exit 75  # training took more than half of the time
            echo "the scores by $extractor take longer than MINUTES=$MINUTES, and begin anew each time" >&2
            exit 1
        fi
        if [ "$code" -ne 0 ]; then
            # Inception's weights are a download, which not every machine can make.
            [ "$extractor" = inception ] && grep -q "are missing: not at" "$scores.errors" || exit "$code"
            echo "no scores by inception here" >&2
            continue
        fi
        mv "$scores.part" "$scores"
        rm -f "$scores.errors"
    done
done
