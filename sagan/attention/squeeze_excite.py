"""Channel gates from the mean of each channel: squeeze-and-excitation, and its efficient form."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, reduced_width
from sagan.config import ConfigError
from sagan.layers import Linear


def channel_means(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C), float32 at least: gates are computed in it."""
    return x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))


class ChannelGate(Attention):
    """T(x) = x * g(channel means of x), with one factor g in (0, 1) for each channel of each image."""

    rewrites = True

    def gate(self, means: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        raise NotImplementedError

    def transform(self, x: Tensor) -> Tensor:
        gate = self.gate(channel_means(x))
        self.record(lambda: AttentionMap("channel gate", gate, x.shape[2:]))
        return x * gate[:, :, None, None].to(x.dtype)


@dataclass(frozen=True)
class SqueezeExciteOptions:
    reduction: int = 16
    """Width over the bottleneck's width."""
    bias: bool = True
    """Biases on both layers (the released models have them; the journal version reports gains without)."""


class SqueezeExcite(ChannelGate):
    """g = sigmoid(W_2 ReLU(W_1 mean(x) + b_1) + b_2), with C -> C/r -> C. 2 C^2 / r + C / r + C + 1 parameters.

    Source: Hu et al. 2018, section 3, which puts it on the residual branch: placement `in_residual`. Raises ConfigError
    where the reduction does not divide C.
    """

    Options = SqueezeExciteOptions

    def __init__(self, options: SqueezeExciteOptions, place: Place):
        super().__init__(place)
        hidden = reduced_width(place, options.reduction)
        linear = dict(bias=options.bias, spectral_norm=place.spectral_norm)
        self.squeeze = Linear(place.channels, hidden, **linear)
        self.excite = Linear(hidden, place.channels, **linear)

    def gate(self, means: Tensor) -> Tensor:
        return torch.sigmoid(self.excite(F.relu(self.squeeze(means))))


@dataclass(frozen=True)
class EfficientChannelOptions:
    kernel_size: int = 0
    """Neighbouring channels that a gate looks at, an odd number; 0: by the width, 3 at 64, 5 at 128 and 256."""


class EfficientChannelAttention(ChannelGate):
    """ECA: g = sigmoid(w * mean(x)), a 1-D convolution along the channels. k + 1 parameters.

    k is (log2(C) + 1) / 2 cut to an integer, or the next one if that is even. The k weights are outside spectral norm,
    which would bound their length as a vector, not the convolution.

    Source: Wang et al. 2020, section 3.2 (gamma = 2, b = 1 in its letters). Raises ConfigError for an even kernel.
    """

    Options = EfficientChannelOptions

    def __init__(self, options: EfficientChannelOptions, place: Place):
        super().__init__(place)
        size = options.kernel_size or int((math.log2(place.channels) + 1) / 2) // 2 * 2 + 1
        if size < 1 or size % 2 == 0:
            raise ConfigError(f"options.kernel_size {size}: expected an odd number, or 0")
        self.weight = nn.Parameter(torch.empty(size).uniform_(-(size**-0.5), size**-0.5))

    def gate(self, means: Tensor) -> Tensor:
        return torch.sigmoid(F.conv1d(means[:, None], self.weight[None, None], padding=len(self.weight) // 2)[:, 0])
