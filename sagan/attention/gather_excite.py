"""Gather-excite (Hu et al. 2018): gates from the neighbourhood of a position, up to the whole map."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, batch_norm, expect_width
from sagan.attention.squeeze_excite import channel_means
from sagan.config import ConfigError
from sagan.layers import Conv2d, drawn

Extent = Literal[2, 4, 8, "global"]


@dataclass(frozen=True)
class GatherExciteOptions:
    """The options of kind `ge`."""

    variant: Literal["theta-minus", "theta", "theta-plus"] = "theta-plus"
    """What is learned. theta-minus: nothing. theta: the gathering. theta-plus: the gathering and a bottleneck."""
    extent: Extent = 8
    """Side, in positions, of the square that shares one gate; global: the whole map."""


def gathering(extent: Extent, place: Place) -> nn.Sequential:
    """Return the learned gathering: (N, C, H, W) -> (N, C, ceil(H/e), ceil(W/e)), or (N, C, 1, 1) if global."""
    if extent == "global":
        return nn.Sequential(DepthwiseConv(place, place.size, stride=1, padding=0))
    stages: list[nn.Module] = []
    for _ in range(extent.bit_length() - 1):  # log2(e)
        stages += [DepthwiseConv(place, (3, 3), stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*stages[:-1])


class GatherExcite(Attention):
    """Gather-excite: T(x) = x * sigmoid(nearest up-sampling of xi(x)); xi gathers to a ceil(H/e) x ceil(W/e) grid.

    theta-minus  xi is average pooling with kernel 2e - 1 and stride e, the mean if global. gamma is the only parameter.
    theta        xi is log2(e) depth-wise 3x3 convolutions of stride 2, each with batch norm and all but the last with a
                 ReLU; if global, one depth-wise H x W convolution. 11 C log2(e) + 1, or C (H W + 2) + 1 parameters.
    theta-plus   adds a ReLU and two 1x1 convolutions C -> C/16 -> C with a ReLU between. C^2/8 + C/16 + C more.

    Without batch norm, the convolutions have biases instead: 10 C replaces 11 C, and H W + 1 replaces H W + 2. The
    depth-wise weights are outside spectral norm: as a (C, k k) matrix they would mix channels that the convolution
    keeps apart. With batch norm, global gathering normalizes 1 x 1 maps, so it needs large batches.

    Source: Hu et al. 2018 (Gather-Excite), section 3 and figure 5, which applies it to the residual branch: placement
    `in_residual`. Raise ConfigError if the extent exceeds the map, or if theta-plus has a C that is not a multiple of
    16.
    """

    Options = GatherExciteOptions
    rewrites = True

    def __init__(self, options: GatherExciteOptions, place: Place):
        super().__init__(place)
        channels = place.channels
        self.extent: Extent = options.extent
        if self.extent != "global" and self.extent > min(place.size):
            raise ConfigError(f"options.extent {self.extent}: expected at most {min(place.size)}, the shorter side")
        self.gather = None if options.variant == "theta-minus" else gathering(self.extent, place)
        self.excite = None
        if options.variant == "theta-plus":
            expect_width(place, 16)
            self.excite = nn.Sequential(
                nn.ReLU(),
                Conv2d(channels, channels // 16, 1, spectral_norm=place.spectral_norm),
                nn.ReLU(),
                Conv2d(channels // 16, channels, 1, spectral_norm=place.spectral_norm),
            )

    def transform(self, x: Tensor) -> Tensor:
        gathered = self.average(x) if self.gather is None else self.gather(x)  # (N, C, h, w)
        logits = gathered if self.excite is None else self.excite(gathered)
        gate = torch.sigmoid(logits)
        # The paper enlarges before the sigmoid. With nearest up-sampling the result is the same, at a higher cost.
        self.record(lambda: AttentionMap("full gate", gate, x.shape[2:], gate.shape[2:]))
        return x * F.interpolate(gate, x.shape[2:], mode="nearest")

    def average(self, x: Tensor) -> Tensor:
        """Gather by average pooling: (N, C, H, W) -> (N, C, h, w)."""
        if self.extent == "global":
            return channel_means(x)[:, :, None, None].to(x.dtype)
        e = self.extent
        return F.avg_pool2d(x, 2 * e - 1, stride=e, padding=e - 1, count_include_pad=False)


class DepthwiseConv(nn.Module):
    """A depth-wise convolution, then batch norm; with a bias instead if the network has no batch norm."""

    def __init__(self, place: Place, kernel_size: tuple[int, int], stride: int, padding: int):
        super().__init__()
        self.weight = nn.Parameter(drawn(nn.init.kaiming_normal_, place.channels, 1, *kernel_size))
        self.bias = None if place.batch_norm else nn.Parameter(torch.zeros(place.channels))
        self.norm = batch_norm(place.channels, place)
        self.stride = stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        weight = self.weight.to(x.dtype)
        h = F.conv2d(x, weight, bias, stride=self.stride, padding=self.padding, groups=len(weight))
        return self.norm(h)
