"""`python -m sagan`, and `torchrun -m sagan`: the command line."""

import sys

from sagan.cli import main

sys.exit(main())
