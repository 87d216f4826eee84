"""The verbs of the command line: each parses its options and makes one call.

Modules that load torch are imported inside the verbs, so that help and mistakes are answered at once.
"""

from collections.abc import Callable

from sagan.verbs.making import export, pack, sample, train
from sagan.verbs.studying import ablate, attention, bench, evaluate

VERBS: dict[str, Callable[[list[str]], None]] = {
    verb.__name__: verb for verb in (train, sample, evaluate, attention, export, ablate, bench, pack)
}
