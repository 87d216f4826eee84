"""The kinds of attention maps, described once for whoever records, draws or shows them.

This module imports nothing: TensorBoard reads it in a process without torch.
"""

from typing import Literal, NamedTuple

Name = Literal["matrix", "windowed matrix", "channel gate", "spatial gate", "full gate"]


class MapKind(NamedTuple):
    """What sets one kind of map apart."""

    gate: bool
    """Factors of the values themselves; otherwise weights, a row of them for each query position."""
    windowed: bool = False
    """Queries and keys are the positions of one window, and there is a matrix for each window."""
    positions: bool = True
    """There is a value for each position of a grid; otherwise one for each channel, drawn as bars."""


MAP_KINDS: dict[str, MapKind] = {
    "matrix": MapKind(gate=False),
    "windowed matrix": MapKind(gate=False, windowed=True),
    "channel gate": MapKind(gate=True, positions=False),
    "spatial gate": MapKind(gate=True),
    "full gate": MapKind(gate=True),
}
