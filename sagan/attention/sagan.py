"""Self-attention as SAGAN has it (Zhang et al. 2019, section 3), and the paper's control for it."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, ProductOptions, expect_even, expect_width
from sagan.attention.functional import dot_product_weights, from_tokens, scaled_dot_product, tokens
from sagan.config import ConfigError
from sagan.layers import Conv2d


@dataclass(frozen=True)
class SaganOptions(ProductOptions):
    variant: Literal["code", "paper", "v1"] = "code"
    """code: the authors' program. paper: the text of the final version. v1: the first arXiv version."""


class SaganAttention(Attention):
    """y = x + gamma W_o sum_k softmax_k(query . key) value, with no 1/sqrt(d) on the logits.

    query (the paper's g; theta in the code), key (f; phi), value (h; g) and W_o (v) are 1x1 convolutions:

    =======  =============  ====================  ==========  ===================
    variant  query, key     value                 W_o         parameters
    =======  =============  ====================  ==========  ===================
    code     C/8            C/2                   C/2 -> C    1.25 C^2 + 1
    paper    C/8            C/8                   C/8 -> C    0.5 C^2 + 1
    v1       C/8 with bias  C with bias           none        1.25 C^2 + 1.25 C + 1
    =======  =============  ====================  ==========  ===================

    `code` max-pools keys and values 2x2, after their convolutions; the other two keep every position. gamma belongs to
    the definition, so both gates have it.

    Source: Zhang et al. 2019, section 3, and the authors' code. Raises ConfigError where C is no multiple of 8, or
    where `code` meets an odd height or width.
    """

    Options = SaganOptions

    def __init__(self, options: SaganOptions, place: Place):
        super().__init__(place, gamma=True)
        expect_width(place, 8)
        self.pooled = options.variant == "code"
        if self.pooled:
            expect_even(place, "variant code pools keys and values and")
        channels = place.channels
        inner = {"code": channels // 2, "paper": channels // 8, "v1": channels}[options.variant]
        convolution = dict(bias=options.variant == "v1", spectral_norm=place.spectral_norm)
        self.cast = options.cast
        self.query = Conv2d(channels, channels // 8, 1, **convolution)
        self.key = Conv2d(channels, channels // 8, 1, **convolution)
        self.value = Conv2d(channels, inner, 1, **convolution)
        self.out = nn.Identity() if options.variant == "v1" else Conv2d(inner, channels, 1, **convolution)

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
    """y = x + gamma conv1x1(ReLU(conv3x3(ReLU(conv1x1(ReLU(x)))))): as many parameters as `sagan`, and no attention.

    Table 1 of the paper compares with it. Widths C -> a -> b -> C, with b = a or a + 1 as comes nearest to the
    1.25 C^2 of kind sagan; no biases. C a + 9 a b + b C + 1 parameters: from C = 32 on, within 2 % of sagan's at every
    multiple of 8. No map.

    Source: Zhang et al. 2019, section 4.2 (the form of the block is ours: the paper gives none). Raises ConfigError
    where whole widths cannot come within 2 %, as at C = 8 and 24: it would control for something else.
    """

    def __init__(self, options: object, place: Place):
        super().__init__(place)
        channels = place.channels
        first, second = control_widths(channels)
        count, wanted = (channels * (first + second) + 9 * first * second + 1), 1.25 * channels**2 + 1
        if abs(count / wanted - 1) > 0.02:
            raise ConfigError(
                f"its {count} parameters differ by {count / wanted - 1:+.1%} from the {wanted:g} of sagan, and at most "
                "2 % make a control; expected a width such as 16, 32 or a larger multiple of 8"
            )
        convolution = dict(bias=False, spectral_norm=place.spectral_norm)
        self.conv1 = Conv2d(channels, first, 1, **convolution)
        self.conv2 = Conv2d(first, second, 3, **convolution)
        self.conv3 = Conv2d(second, channels, 1, **convolution)

    def transform(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(x))  # (N, a, H, W)
        h = self.conv2(F.relu(h))  # (N, b, H, W)
        return self.conv3(F.relu(h))  # (N, C, H, W)


def control_widths(channels: int) -> tuple[int, int]:
    """Inner widths (a, a) or (a, a + 1) of the bottleneck whose weights come nearest to 1.25 C^2 in number."""
    around = range(1, channels // 2 + 1)  # a = b = 5/18 C solves 2 C a + 9 a^2 = 1.25 C^2
    pairs = [(a, b) for a in around for b in (a, a + 1)]
    return min(pairs, key=lambda p: abs(channels * (p[0] + p[1]) + 9 * p[0] * p[1] - 1.25 * channels**2))
