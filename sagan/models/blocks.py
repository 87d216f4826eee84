"""The residual blocks of the reference architecture: pre-activation, with optional attention.

Attention is applied to the sum, or to the residual branch just before it.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sagan.layers import BatchNorm, Conv2d


class GeneratorBlock(nn.Module):
    """A residual block that doubles height and width: (N, I, H, W), (N,) -> (N, O, 2H, 2W)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spectral_norm: bool,
        norm: dict[str, Any],
        *,
        attention: nn.Module,
        in_residual: bool,
    ):
        super().__init__()
        self.norm1 = BatchNorm(in_channels, **norm)
        self.conv1 = Conv2d(in_channels, out_channels, 3, spectral_norm=spectral_norm, resample="up")
        self.norm2 = BatchNorm(out_channels, **norm)
        self.conv2 = Conv2d(out_channels, out_channels, 3, spectral_norm=spectral_norm)
        self.shortcut = Conv2d(in_channels, out_channels, 1, spectral_norm=spectral_norm, resample="up")
        self.attention = attention
        self.in_residual = in_residual

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        h = F.relu_(self.norm1(x, y))  # (N, I, H, W)
        h = self.conv1(h)  # (N, O, 2H, 2W)
        h = F.relu_(self.norm2(h, y))
        h = self.conv2(h)
        if self.in_residual:
            return self.attention(h) + self.shortcut(x)
        return self.attention(h + self.shortcut(x))


class DiscriminatorBlock(nn.Module):
    """A residual block: (N, I, H, W) -> (N, O, H/2, W/2) if `down`, else (N, O, H, W).

    The first block has no ReLU on its input, because that is an image. The shortcut is the identity if neither the size
    nor the number of channels changes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spectral_norm: bool,
        *,
        down: bool,
        first: bool,
        attention: nn.Module,
        in_residual: bool,
    ):
        super().__init__()
        resample = "down" if down else None
        self.first = first
        self.conv1 = Conv2d(in_channels, out_channels, 3, spectral_norm=spectral_norm)
        self.conv2 = Conv2d(out_channels, out_channels, 3, spectral_norm=spectral_norm, resample=resample)
        self.shortcut = nn.Identity()
        if down or in_channels != out_channels:
            self.shortcut = Conv2d(in_channels, out_channels, 1, spectral_norm=spectral_norm, resample=resample)
        self.attention = attention
        self.in_residual = in_residual

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.first else F.relu(x)  # (N, I, H, W)
        h = F.relu_(self.conv1(h))  # (N, O, H, W)
        h = self.conv2(h)  # (N, O, H/2, W/2)
        if self.in_residual:
            return self.attention(h) + self.shortcut(x)
        return self.attention(h + self.shortcut(x))
