"""The kinds of attention maps, described once for the code that records, draws and serves them.

This module imports nothing but `typing`: TensorBoard reads it in a process without torch.
"""

from typing import Literal, NamedTuple

Name = Literal["matrix", "windowed matrix", "channel gate", "spatial gate", "full gate"]


class MapKind(NamedTuple):
    """Properties of one kind of map."""

    gate: bool
    """True: factors that multiply the values. False: weights, one row per query position."""
    windowed: bool = False
    """Whether there is one matrix per window, with the positions of that window as queries and keys."""
    positions: bool = True
    """True: one value per position of a grid. False: one value per channel, drawn as bars."""


MAP_KINDS: dict[str, MapKind] = {
    "matrix": MapKind(gate=False),
    "windowed matrix": MapKind(gate=False, windowed=True),
    "channel gate": MapKind(gate=True, positions=False),
    "spatial gate": MapKind(gate=True),
    "full gate": MapKind(gate=True),
}
