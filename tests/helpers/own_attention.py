"""A custom attention kind: a gate for each position, computed from its neighbourhood."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sagan.attention import Attention, AttentionMap, Conv2d, Place


@dataclass(frozen=True)
class GateOptions:
    kernel_size: int = 3
    """Side of the neighbourhood, an odd number."""


class NeighbourhoodGate(Attention):
    Options = GateOptions
    rewrites = True  # transform(x) replaces x; without this line it would be added to x

    def __init__(self, options: GateOptions, place: Place):
        super().__init__(place)
        self.score = Conv2d(place.channels, 1, options.kernel_size, spectral_norm=place.spectral_norm)

    def transform(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.score(x))  # (N, 1, H, W)
        self.record(lambda: AttentionMap("spatial gate", gate, x.shape[2:]))
        return x * gate
