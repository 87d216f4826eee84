"""Gather-excite (Hu et al. 2018): gates from the neighbourhood of a position, up to the whole map."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, batch_norm, expect_width
from sagan.attention.squeeze_excite import channel_means
from sagan.config import ConfigError
from sagan.layers import Conv2d


@dataclass(frozen=True)
class GatherExciteOptions:
    variant: Literal["theta-minus", "theta", "theta-plus"] = "theta-plus"
    """What is learned: nothing; the gathering; the gathering and a bottleneck after it."""
    extent: Literal[2, 4, 8, "global"] = 8
    """How many positions, along each side, a gate stands for."""


class GatherExcite(Attention):
    """T(x) = x * sigmoid(nearest up-sampling of xi(x)), where xi gathers to a grid of ceil(H/e) x ceil(W/e).

    theta-minus  xi is average pooling with kernel 2e - 1 and stride e, the mean if global; no parameters but gamma.
    theta        xi is log2(e) depth-wise 3x3 convolutions of stride 2, each with batch norm and all but the last with a
                 ReLU; if global, one depth-wise H x W convolution. 11 C log2(e) + 1, or C (H W + 2) + 1 parameters.
    theta-plus   then ReLU and two 1x1 convolutions C -> C/16 -> C with a ReLU between: C^2/8 + C/16 + C more.

    Without batch norm its bias stays, on the convolutions: 10 C for each 11 C, H W + 1 for H W + 2. The depth-wise
    weights are outside spectral norm: their (C, k k) matrix mixes channels that the operator keeps apart. Global
    gathering with batch norm normalises 1 x 1 maps, so it needs batches of many images.

    Source: Hu et al. 2018 (Gather-Excite), section 3 and figure 5, which puts it on the residual branch: placement
    `in_residual`. Raises ConfigError where the extent exceeds the map, or where theta-plus meets a C that is no
    multiple of 16.
    """

    Options = GatherExciteOptions
    rewrites = True

    def __init__(self, options: GatherExciteOptions, place: Place):
        super().__init__(place)
        channels, self.extent = place.channels, options.extent
        if self.extent != "global" and self.extent > min(place.size):
            raise ConfigError(f"options.extent {self.extent}: expected no more than the map's shorter side")
        stages: list[nn.Module] = []
        if options.variant != "theta-minus" and self.extent == "global":
            stages = [DepthwiseConv(place, place.size, stride=1, padding=0)]
        elif options.variant != "theta-minus":
            for _ in range(self.extent.bit_length() - 1):
                stages += [DepthwiseConv(place, (3, 3), stride=2, padding=1), nn.ReLU()]
            stages.pop()
        self.gather = nn.Sequential(*stages) if stages else None
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
        # The paper enlarges before the sigmoid. With nearest up-sampling that gives the same, at a higher price.
        self.record(lambda: AttentionMap("full gate", gate, x.shape[2:], gate.shape[2:]))
        return x * F.interpolate(gate, x.shape[2:], mode="nearest")

    def average(self, x: Tensor) -> Tensor:
        if self.extent == "global":
            return channel_means(x)[:, :, None, None].to(x.dtype)
        e = self.extent
        return F.avg_pool2d(x, 2 * e - 1, stride=e, padding=e - 1, count_include_pad=False)


class DepthwiseConv(nn.Module):
    """A convolution of each channel with its own kernel, then batch norm; a bias in its place where there is none."""

    def __init__(self, place: Place, kernel_size: tuple[int, int], stride: int, padding: int):
        super().__init__()
        self.weight = nn.Parameter(nn.init.kaiming_normal_(torch.empty(place.channels, 1, *kernel_size)))
        self.bias = None if place.batch_norm else nn.Parameter(torch.zeros(place.channels))
        self.norm = batch_norm(place.channels, place)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        weight = self.weight.to(x.dtype)
        h = F.conv2d(x, weight, bias, stride=self.stride, padding=self.padding, groups=len(weight))
        return self.norm(h)
