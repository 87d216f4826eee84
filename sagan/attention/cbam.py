"""Convolutional block attention module (Woo et al. 2018)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sagan.attention.base import Attention, AttentionMap, Place, batch_norm, reduced_width
from sagan.attention.squeeze_excite import channel_means
from sagan.layers import Conv2d, Linear


@dataclass(frozen=True)
class CbamOptions:
    reduction: int = 16
    """Width over the bottleneck's width."""
    parts: Literal["both", "channel", "spatial"] = "both"
    """The gates it has; both: the channel gate, then the spatial one."""


class Cbam(Attention):
    """T(x) = x_1 * sigmoid(BN(conv7x7([max_c x_1; mean_c x_1]))), with x_1 = x * sigmoid(m(mean_p x) + m(max_p x)).

    m is one bottleneck C -> C/r -> C with biases for both statistics over the positions p. The convolution has no bias
    with batch norm, and a bias in its place without. Channel: 2 C^2 / r + C / r + C parameters; spatial: 98 + 2 with
    batch norm, 98 + 1 without; gamma: 1.

    Source: Woo et al. 2018, section 3, and the authors' code, which concatenates maximum before mean; it stands on the
    residual branch: placement `in_residual`. Raises ConfigError where the reduction does not divide C.
    """

    Options = CbamOptions
    rewrites = True

    def __init__(self, options: CbamOptions, place: Place):
        super().__init__(place)
        self.channel, self.spatial = (options.parts in ("both", part) for part in ("channel", "spatial"))
        if self.channel:
            hidden = reduced_width(place, options.reduction)
            self.squeeze = Linear(place.channels, hidden, spectral_norm=place.spectral_norm)
            self.excite = Linear(hidden, place.channels, spectral_norm=place.spectral_norm)
        if self.spatial:
            self.conv = Conv2d(2, 1, 7, bias=not place.batch_norm, spectral_norm=place.spectral_norm)
            self.norm = batch_norm(1, place)

    def transform(self, x: Tensor) -> Tensor:
        if self.channel:
            x = x * self.channel_gate(x)
        return x * self.spatial_gate(x) if self.spatial else x

    def channel_gate(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 1, 1)."""
        statistics = torch.stack([channel_means(x), x.amax((2, 3)).to(self.squeeze.weight.dtype)])  # (2, N, C)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(statistics))).sum(0))
        self.record(lambda: AttentionMap("channel gate", gate, x.shape[2:]))
        return gate[:, :, None, None].to(x.dtype)

    def spatial_gate(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 1, H, W)."""
        statistics = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (N, 2, H, W)
        gate = torch.sigmoid(self.norm(self.conv(statistics)))
        self.record(lambda: AttentionMap("spatial gate", gate, x.shape[2:]))
        return gate
