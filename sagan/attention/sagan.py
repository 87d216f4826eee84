"""The self-attention of SAGAN (Zhang et al. 2019, section 3), and the paper's control for it."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, NoOptions, Place, ProductOptions, expect_even, expect_width
from sagan.attention.functional import dot_product_weights, from_tokens, scaled_dot_product, tokens
from sagan.config import ConfigError
from sagan.layers import Conv2d


@dataclass(frozen=True)
class SaganOptions(ProductOptions):
    """The options of kind `sagan`."""

    variant: Literal["code", "paper", "v1"] = "code"
    """Definition to use. code: the authors' code. paper: the text of the final version. v1: the first arXiv version."""


class SaganAttention(Attention):
    """SAGAN's self-attention: y = x + gamma W_o sum_k softmax_k(query . key) value, with unscaled logits.

    query (the paper's g; theta in the code), key (f; phi), value (h; g) and W_o (v) are 1x1 convolutions:

    =======  =============  ====================  ==========  ===================
    variant  query, key     value                 W_o         parameters
    =======  =============  ====================  ==========  ===================
    code     C/8            C/2                   C/2 -> C    1.25 C^2 + 1
    paper    C/8            C/8                   C/8 -> C    0.5 C^2 + 1
    v1       C/8 with bias  C with bias           none        1.25 C^2 + 1.25 C + 1
    =======  =============  ====================  ==========  ===================

    `code` max-pools keys and values 2x2 after their convolutions; the other two keep every position. gamma is part of
    the published definition, so both gates have it.

    Source: Zhang et al. 2019, section 3, and the authors' code. Raise ConfigError if C is not a multiple of 8, or if
    the variant is `code` and height or width is odd.
    """

    Options = SaganOptions

    def __init__(self, options: SaganOptions, place: Place):
        super().__init__(place, gamma=True)
        expect_width(place, 8)
        self.pooled = options.variant == "code"
        if self.pooled:
            expect_even(place, "options.variant code")
        channels = place.channels
        inner = {"code": channels // 2, "paper": channels // 8, "v1": channels}[options.variant]
        conv1x1 = partial(Conv2d, kernel_size=1, bias=options.variant == "v1", spectral_norm=place.spectral_norm)
        self.cast = options.cast
        self.query = conv1x1(channels, channels // 8)
        self.key = conv1x1(channels, channels // 8)
        self.value = conv1x1(channels, inner)
        self.out = nn.Identity() if options.variant == "v1" else conv1x1(inner, channels)

    def transform(self, x: Tensor) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)
        if self.pooled:
            key, value = F.max_pool2d(key, 2), F.max_pool2d(value, 2)
        size, key_size = x.shape[2:], key.shape[2:]
        query, key, value = self.cast(tokens(query), tokens(key), tokens(value))  # (N, 1, L or P, channels)
        self.record(lambda: AttentionMap("matrix", dot_product_weights(query, key, 1.0), size, key_size, True))
        o = scaled_dot_product(query, key, value, scale=1.0)  # (N, 1, L, inner)
        return self.out(from_tokens(o, size).to(x.dtype))


class ResidualControl(Attention):
    """A residual block with as many parameters as kind `sagan` and no attention, the control of the paper's Table 1.

        y = x + gamma conv1x1(ReLU(conv3x3(ReLU(conv1x1(ReLU(x))))))

    The channels are C -> a -> b -> C without biases, with b = a or a + 1, whichever is nearest to the 1.25 C^2 of
    `sagan`. C a + 9 a b + b C + 1 parameters: within 2 % of `sagan` at every multiple of 8 from C = 32 on. No map.

    Source: Zhang et al. 2019, section 4.2, which does not give the form of the block; this one is ours. Raise
    ConfigError if no integers come within 2 %, as at C = 8 and 24, because that would not be a control.
    """

    def __init__(self, options: NoOptions, place: Place):
        super().__init__(place)
        channels = place.channels
        first, second = control_widths(channels)
        count = channels * (first + second) + 9 * first * second + 1
        target = 1.25 * channels**2 + 1
        if abs(count / target - 1) > 0.02:
            raise ConfigError(
                f"its {count} parameters differ by {count / target - 1:+.1%} from the {target:g} of sagan, more than "
                "the 2% allowed for a control; expected 16, 32 or a larger multiple of 8 channels"
            )
        conv = partial(Conv2d, bias=False, spectral_norm=place.spectral_norm)
        self.conv1 = conv(channels, first, 1)
        self.conv2 = conv(first, second, 3)
        self.conv3 = conv(second, channels, 1)

    def transform(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(x))  # (N, a, H, W)
        h = self.conv2(F.relu(h))  # (N, b, H, W)
        return self.conv3(F.relu(h))  # (N, C, H, W)


def control_widths(channels: int) -> tuple[int, int]:
    """Return the inner widths, (a, a) or (a, a + 1), whose number of weights is nearest to 1.25 C^2."""
    around = range(1, channels // 2 + 1)  # a = b = 5/18 C solves 2 C a + 9 a^2 = 1.25 C^2
    pairs = [(a, b) for a in around for b in (a, a + 1)]
    return min(pairs, key=lambda p: abs(channels * (p[0] + p[1]) + 9 * p[0] * p[1] - 1.25 * channels**2))
