"""Attention kinds that no graph can carry, and kinds that people write."""

from dataclasses import dataclass

import torch
from torch import nn

from sagan.attention import Attention, Linear
from sagan.attention.base import NoOptions


class ReadsValues(Attention):
    """What it does depends on the sign of a sum, which a graph does not know."""

    Options = NoOptions

    def __init__(self, options, place):
        super().__init__(place)

    def transform(self, x):
        return x if x.sum() > 0 else -x


class ActsWhenTraced(Attention):
    """It computes something else in a graph."""

    Options = NoOptions

    def __init__(self, options, place):
        super().__init__(place, gamma=False)

    def transform(self, x):
        return 2 * x if torch.compiler.is_exporting() else x


class ComputesWhenBuilt(Attention):
    """It needs numbers when it is built, which no layer has before its memory is allocated."""

    Options = NoOptions

    def __init__(self, options, place):
        super().__init__(place)
        self.scale = float(torch.tensor(9.0).sqrt())

    def transform(self, x):
        return self.scale * x


@dataclass(frozen=True)
class Needed:
    """Options of which one has no default."""

    width: int
    depth: int = 1


class OfFloatParameters(Attention):
    """A layer of the package on the channels, a float32 parameter, and an option that has to be given."""

    Options = Needed

    def __init__(self, options, place):
        super().__init__(place)
        self.mix = Linear(place.channels, place.channels, spectral_norm=place.spectral_norm)
        self.scale = nn.Parameter(torch.full((place.channels, 1, 1), float(options.width)))

    def transform(self, x):
        return self.mix(x.movedim(1, -1)).movedim(-1, 1) * self.scale
