"""The attention module of the residual attention network (Wang et al. 2017)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, batch_norm, expect_width
from sagan.config import ConfigError
from sagan.layers import Conv2d


@dataclass(frozen=True)
class ResidualAttentionOptions:
    depth: int = 0
    """Poolings of the mask branch; 0: down to a map of 4, and at most 3."""
    normalization: Literal["mixed", "channel", "spatial"] = "mixed"
    """Of the mask: sigmoid; unit length over the channels; sigmoid of the channel standardised over its positions."""


class ResidualAttention(Attention):
    """T(x) = u((1 + M(a)) * t(a)), with a = u(x): a trunk t of two units and a bottom-up top-down mask M beside it.

    u stands for pre-activation bottleneck units (`Unit`), each with its own weights. The mask branch goes down by max
    pooling (3x3, stride 2, no padding, partial windows counted) with one unit a level and two at the bottom, and up by
    bilinear enlargement; on each level but the top, the way down, through a unit, is added before the next unit. Two
    1x1 convolutions, each after BN and ReLU, make the mask, in [0, 1] for `mixed` and `spatial`.

    d poolings: 3 d + 3 units; (3 d + 3) (17/16 C^2 + 3 C) + 2 C^2 + 4 C + 1 parameters with batch norm. Without, batch
    norm is left out, and with it the terms in C.

    Source: Wang et al. 2017, sections 3.1 and 3.2, and the authors' network files. Raises ConfigError where C is no
    multiple of 4, or where the map cannot be pooled to at least 2 x 2.
    """

    Options = ResidualAttentionOptions
    rewrites = True

    def __init__(self, options: ResidualAttentionOptions, place: Place):
        super().__init__(place)
        expect_width(place, 4)
        shorter = min(place.size)
        depth = options.depth or max(1, min(3, (shorter // 4).bit_length() - 1))  # 8: 1, 16: 2, from 32 on: 3
        if depth < 1 or shorter < 2 << depth:
            raise ConfigError(
                f"options.depth {depth}: expected 1 or more, and a at most what leaves 2 pixels of the shorter side"
            )
        self.normalization, convolution = options.normalization, dict(bias=False, spectral_norm=place.spectral_norm)
        self.before = Unit(place)
        self.trunk = nn.Sequential(Unit(place), Unit(place))
        self.down = nn.ModuleList(Unit(place) for _ in range(depth))
        self.bottom = Unit(place)
        self.skips = nn.ModuleList(Unit(place) for _ in range(depth - 1))
        self.up = nn.ModuleList(Unit(place) for _ in range(depth - 1))
        self.head = nn.Sequential(
            batch_norm(place.channels, place),
            nn.ReLU(),
            Conv2d(place.channels, place.channels, 1, **convolution),
            batch_norm(place.channels, place),
            nn.ReLU(),
            Conv2d(place.channels, place.channels, 1, **convolution),
        )
        self.after = Unit(place)

    def transform(self, x: Tensor) -> Tensor:
        a = self.before(x)
        mask = self.mask(a)  # (N, C, H, W)
        self.record(lambda: AttentionMap("full gate", mask, x.shape[2:], x.shape[2:]))
        return self.after((1 + mask) * self.trunk(a))

    def mask(self, a: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        levels, h = [], a
        for unit in self.down:
            h = unit(F.max_pool2d(h, 3, stride=2, ceil_mode=True))  # (N, C, H / 2^i, W / 2^i)
            levels.append(h)
        h = self.bottom(levels.pop())
        for skip, unit in zip(self.skips, self.up, strict=True):
            level = levels.pop()
            h = unit(enlarge(h, level) + skip(level))
        logits = self.head(enlarge(h, a))
        if self.normalization == "channel":
            return F.normalize(logits, dim=1)
        if self.normalization == "spatial":
            variance, mean = torch.var_mean(logits, (2, 3), correction=0, keepdim=True)
            logits = (logits - mean) * torch.rsqrt(variance + 1e-5)
        return torch.sigmoid(logits)


def enlarge(h: Tensor, like: Tensor) -> Tensor:
    """h at the size of another map; corners stay corners."""
    return F.interpolate(h, like.shape[2:], mode="bilinear", align_corners=True)


class Unit(nn.Module):
    """x + conv1x1(conv3x3(conv1x1(x))), C -> C/4 -> C/4 -> C, each after BN and ReLU: 17/16 C^2 + 3 C parameters."""

    def __init__(self, place: Place):
        super().__init__()
        channels, inner = place.channels, place.channels // 4
        convolution = dict(bias=False, spectral_norm=place.spectral_norm)
        self.norm1, self.conv1 = batch_norm(channels, place), Conv2d(channels, inner, 1, **convolution)
        self.norm2, self.conv2 = batch_norm(inner, place), Conv2d(inner, inner, 3, **convolution)
        self.norm3, self.conv3 = batch_norm(inner, place), Conv2d(inner, channels, 1, **convolution)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))  # (N, C/4, H, W)
        h = self.conv2(F.relu(self.norm2(h)))
        h = self.conv3(F.relu(self.norm3(h)))
        return x + h
