"""The convolutional block attention module, CBAM (Woo et al. 2018)."""

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
    """The options of kind `cbam`."""

    reduction: int = 16
    """Reduction of the bottleneck, which has C / reduction channels."""
    parts: Literal["both", "channel", "spatial"] = "both"
    """Gates to apply. both: the channel gate, then the spatial gate."""


class Cbam(Attention):
    """CBAM: a channel gate, then a spatial gate.

        x_1 = x * sigmoid(m(mean_p x) + m(max_p x))
        T(x) = x_1 * sigmoid(BN(conv7x7([max_c x_1; mean_c x_1])))

    m is a bottleneck C -> C/r -> C with biases, shared by both statistics over the positions p. Without batch norm, the
    convolution has a bias instead. Channel gate: 2 C^2 / r + C / r + C parameters; spatial gate: 98 + 2 with batch
    norm, 98 + 1 without; gamma: 1.

    Source: Woo et al. 2018, section 3, and the authors' code, which concatenates maximum before mean. The paper applies
    it to the residual branch: placement `in_residual`. Raise ConfigError if the reduction does not divide C.
    """

    Options = CbamOptions
    rewrites = True

    def __init__(self, options: CbamOptions, place: Place):
        super().__init__(place)
        self.channel = options.parts in ("both", "channel")
        self.spatial = options.parts in ("both", "spatial")
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
        """Return a factor per channel: (N, C, H, W) -> (N, C, 1, 1)."""
        statistics = torch.stack([channel_means(x), x.amax((2, 3)).to(self.squeeze.weight.dtype)])  # (2, N, C)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(statistics))).sum(0))
        self.record(lambda: AttentionMap("channel gate", gate, x.shape[2:]))
        return gate[:, :, None, None].to(x.dtype)

    def spatial_gate(self, x: Tensor) -> Tensor:
        """Return a factor per position: (N, C, H, W) -> (N, 1, H, W)."""
        statistics = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (N, 2, H, W)
        gate = torch.sigmoid(self.norm(self.conv(statistics)))
        self.record(lambda: AttentionMap("spatial gate", gate, x.shape[2:]))
        return gate
