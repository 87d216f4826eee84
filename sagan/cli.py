"""The command line: `sagan VERB ...`."""

import sys

from sagan.config import ConfigError, UserError
from sagan.verbs import VERBS

USAGE = """usage: sagan VERB ...

  train     train a SAGAN, or go on training it
  sample    generate images from a run, a checkpoint or exported weights
  evaluate  FID, IS, KID, precision and recall of a run, or of two folders
  attention draw where the networks look, over generated and real images
  export    write weights as safetensors
  ablate    train and score the variants of a plan, and report what they differ in
  bench     measure the speed of a training step
  pack      turn any data set into one memory-mapped file

`sagan VERB --help` explains a verb.
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs a verb. Returns 0, 1 where something outside stops the work, 2 where an option is wrong, or 3 where training
    diverged."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("--help", "-h"):
        print(USAGE)
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        print(f"sagan: error: {verb}: there is no such verb; expected one of {', '.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        VERBS[verb](rest)
    except (ConfigError, UserError) as error:
        print(f"sagan {verb}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"sagan {verb}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
