"""The attention module of the residual attention network (Wang et al. 2017)."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, batch_norm, expect_width
from sagan.config import ConfigError
from sagan.layers import Conv2d


@dataclass(frozen=True)
class ResidualAttentionOptions:
    """The options of kind `residual-attention`."""

    depth: int = 0
    """Pooling steps in the mask branch. 0: chosen by the shorter side of the map, 1 at 8, 2 at 16, 3 from 32 on."""
    normalization: Literal["mixed", "channel", "spatial"] = "mixed"
    """Normalization of the mask. mixed: sigmoid. channel: unit length over the channels. spatial: sigmoid, after each
    channel is standardized over its positions."""


class ResidualAttention(Attention):
    """Residual attention: T(x) = u((1 + M(a)) * t(a)), with a = u(x), a trunk t of two units and a mask branch M.

    u is a pre-activation bottleneck unit (`Unit`); each has its own weights. The mask branch first pools (3x3 max,
    stride 2, no padding, partial windows included), with one unit per level and two at the bottom. It then returns to
    the full size by bilinear up-sampling. At each intermediate level it adds the map from the way down, passed through
    a skip unit, and applies another unit. Two 1x1 convolutions, each after BN and ReLU, produce the mask, which is in
    [0, 1] for `mixed` and `spatial`.

    With d pooling steps there are 3 d + 3 units: (3 d + 3) (17/16 C^2 + 3 C) + 2 C^2 + 4 C + 1 parameters with batch
    norm. Without batch norm, the terms in C are absent.

    Source: Wang et al. 2017, sections 3.1 and 3.2, and the authors' network files. Raise ConfigError if C is not a
    multiple of 4, or if pooling would leave less than 2 x 2 positions.
    """

    Options = ResidualAttentionOptions
    rewrites = True

    def __init__(self, options: ResidualAttentionOptions, place: Place):
        super().__init__(place)
        expect_width(place, 4)
        shorter = min(place.size)
        depth = options.depth or max(1, min(3, (shorter // 4).bit_length() - 1))  # 8: 1, 16: 2, 32 and more: 3
        if depth < 1 or shorter < 2 << depth:
            raise ConfigError(f"options.depth {depth}: expected 1 or more steps that leave at least 2 x 2 positions")
        self.normalization = options.normalization
        conv = partial(Conv2d, bias=False, spectral_norm=place.spectral_norm)
        self.before = Unit(place)
        self.trunk = nn.Sequential(Unit(place), Unit(place))
        self.down = nn.ModuleList(Unit(place) for _ in range(depth))
        self.bottom = Unit(place)
        self.skips = nn.ModuleList(Unit(place) for _ in range(depth - 1))
        self.up = nn.ModuleList(Unit(place) for _ in range(depth - 1))
        self.head = nn.Sequential(
            batch_norm(place.channels, place),
            nn.ReLU(),
            conv(place.channels, place.channels, 1),
            batch_norm(place.channels, place),
            nn.ReLU(),
            conv(place.channels, place.channels, 1),
        )
        self.after = Unit(place)

    def transform(self, x: Tensor) -> Tensor:
        a = self.before(x)
        mask = self.mask(a)  # (N, C, H, W)
        self.record(lambda: AttentionMap("full gate", mask, x.shape[2:], x.shape[2:]))
        return self.after((1 + mask) * self.trunk(a))

    def mask(self, a: Tensor) -> Tensor:
        """Return the mask: (N, C, H, W) -> (N, C, H, W)."""
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
    """Resize h to the size of another map, with aligned corners."""
    return F.interpolate(h, like.shape[2:], mode="bilinear", align_corners=True)


class Unit(nn.Module):
    """A bottleneck unit: x + conv1x1(conv3x3(conv1x1(x))), C -> C/4 -> C/4 -> C, each after BN and ReLU.

    17/16 C^2 + 3 C parameters.
    """

    def __init__(self, place: Place):
        super().__init__()
        channels = place.channels
        inner = channels // 4
        conv = partial(Conv2d, bias=False, spectral_norm=place.spectral_norm)
        self.norm1 = batch_norm(channels, place)
        self.conv1 = conv(channels, inner, 1)
        self.norm2 = batch_norm(inner, place)
        self.conv2 = conv(inner, inner, 3)
        self.norm3 = batch_norm(inner, place)
        self.conv3 = conv(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))  # (N, C/4, H, W)
        h = self.conv2(F.relu(self.norm2(h)))
        h = self.conv3(F.relu(self.norm3(h)))
        return x + h
