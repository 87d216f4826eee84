"""Gates from the mean of each channel: squeeze-and-excitation, and efficient channel attention (ECA)."""

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, reduced_width
from sagan.config import ConfigError
from sagan.layers import Linear


def channel_means(x: Tensor) -> Tensor:
    """Return the mean of each channel: (N, C, H, W) -> (N, C), in float32 or float64, the precision of gates."""
    return x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))


class ChannelGate(Attention):
    """A gate per channel: T(x) = x * g(channel means of x), with g in (0, 1)."""

    rewrites = True

    def gate(self, means: Tensor) -> Tensor:
        """Return the factors of the channels: (N, C) -> (N, C)."""
        raise NotImplementedError

    def transform(self, x: Tensor) -> Tensor:
        gate = self.gate(channel_means(x))
        self.record(lambda: AttentionMap("channel gate", gate, x.shape[2:]))
        return x * gate[:, :, None, None].to(x.dtype)


@dataclass(frozen=True)
class SqueezeExciteOptions:
    """The options of kind `se`."""

    reduction: int = 16
    """Reduction of the bottleneck, which has C / reduction channels."""
    bias: bool = True
    """Biases on both layers, as in the released models. The journal version of the paper reports gains without them."""


class SqueezeExcite(ChannelGate):
    """Squeeze-and-excitation: g = sigmoid(W_2 ReLU(W_1 mean(x) + b_1) + b_2), C -> C/r -> C.

    2 C^2 / r + C / r + C + 1 parameters; C / r + C fewer without biases.

    Source: Hu et al. 2018, section 3, which applies it to the residual branch: placement `in_residual`. Raise
    ConfigError if the reduction does not divide C.
    """

    Options = SqueezeExciteOptions

    def __init__(self, options: SqueezeExciteOptions, place: Place):
        super().__init__(place)
        hidden = reduced_width(place, options.reduction)
        linear = partial(Linear, bias=options.bias, spectral_norm=place.spectral_norm)
        self.squeeze = linear(place.channels, hidden)
        self.excite = linear(hidden, place.channels)

    def gate(self, means: Tensor) -> Tensor:
        return torch.sigmoid(self.excite(F.relu(self.squeeze(means))))


@dataclass(frozen=True)
class EfficientChannelOptions:
    """The options of kind `eca`."""

    kernel_size: int = 0
    """Number of neighbouring channels per gate, odd. 0: chosen by width, such as 3 at 64 channels, 5 at 128 and 256."""


class EfficientChannelAttention(ChannelGate):
    """ECA: g = sigmoid(w * mean(x)), with a 1-D convolution along the channels. k + 1 parameters.

    By default, k is (log2(C) + 1) / 2 truncated to an integer, plus 1 if that is even. The k weights are outside
    spectral norm, which would bound their length as a vector, not the convolution.

    Source: Wang et al. 2020, section 3.2 (gamma = 2 and b = 1 in its notation). Raise ConfigError if k is even.
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
