"""`python -m sagan`, and `torchrun -m sagan`: the command line."""

import sys

from sagan.commands.app import main

sys.exit(main())
