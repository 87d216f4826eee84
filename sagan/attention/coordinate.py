"""Coordinate attention (Hou et al. 2021): gates per row and per column."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sagan.attention.base import Attention, AttentionMap, Place, batch_norm
from sagan.config import ConfigError
from sagan.layers import Conv2d


@dataclass(frozen=True)
class CoordinateOptions:
    """The options of kind `coordinate`."""

    reduction: int = 32
    """Reduction of the bottleneck, which has C / reduction channels, but at least 8."""


class CoordinateAttention(Attention):
    """Coordinate attention: T(x) = x * g_y(row) * g_x(column).

        h = hard-swish(BN(W_1 [means of rows; means of columns])), one bottleneck for both
        g_y = sigmoid(W_y h) on the rows' part of h, g_x = sigmoid(W_x h) on the columns' part

    W_1 (C -> m = max(8, C/r)), W_y and W_x (m -> C) are 1x1 convolutions with biases. 3 C m + 3 m + 2 C + 1 parameters
    with batch norm, 2 m fewer without.

    Source: Hou et al. 2021, section 3.2, and the authors' code. Raise ConfigError for a reduction below 1.
    """

    Options = CoordinateOptions
    rewrites = True

    def __init__(self, options: CoordinateOptions, place: Place):
        super().__init__(place)
        if options.reduction < 1:
            raise ConfigError(f"options.reduction {options.reduction}: expected 1 or more")
        channels = place.channels
        hidden = max(8, channels // options.reduction)
        self.squeeze = Conv2d(channels, hidden, 1, spectral_norm=place.spectral_norm)
        self.norm = batch_norm(hidden, place)
        self.rows = Conv2d(hidden, channels, 1, spectral_norm=place.spectral_norm)
        self.columns = Conv2d(hidden, channels, 1, spectral_norm=place.spectral_norm)

    def transform(self, x: Tensor) -> Tensor:
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).mT  # (N, C, H, 1), (N, C, W, 1)
        h = F.hardswish(self.norm(self.squeeze(torch.cat([rows, columns], dim=2))))  # (N, m, H + W, 1)
        rows, columns = h.split(x.shape[2:], dim=2)
        gate = torch.sigmoid(self.rows(rows)) * torch.sigmoid(self.columns(columns)).mT  # (N, C, H, W)
        self.record(lambda: AttentionMap("full gate", gate, x.shape[2:], x.shape[2:]))
        return x * gate
