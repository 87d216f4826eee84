"""Attention kinds that no graph can carry."""

import torch

from sagan.attention import Attention
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
