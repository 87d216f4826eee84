"""Additive attention (Bahdanau et al. 2015) over the pixels of a map."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, expect_even, expect_width
from sagan.attention.functional import chunked_attention, from_tokens, tokens
from sagan.layers import Conv2d


@dataclass(frozen=True)
class AdditiveOptions:
    """The options of kind `additive`."""

    pool: bool = True
    """Max-pool keys and values 2x2, as in kind `sagan`."""
    bias: bool = False
    """Learn a bias inside the tanh."""


class AdditiveAttention(Attention):
    """Additive attention: y = x + gamma W_o sum_k softmax_k(e[q, k]) value_k, with e[q, k] = v . tanh(W x_q + U x_k).

    Only the score differs from kind `sagan`, to make the two comparable: W and U are 1x1 convolutions C -> C/8, the
    value is one C -> C/2, and W_o is one C/2 -> C. 1.25 C^2 + C/8 + 1 parameters, and C/8 more with a bias.

    v starts at 0 (uniform weights). It is outside spectral norm, because it bounds the logits itself: |e| is at most
    the sum of |v|. The tanh of every pair of positions is computed for a few queries at a time and not stored.

    Source: Bahdanau et al. 2015, section 3.1 and appendix A.1.2; values and output follow SAGAN instead. Raise
    ConfigError if C is not a multiple of 8, or if pooling is on and height or width is odd.
    """

    Options = AdditiveOptions

    def __init__(self, options: AdditiveOptions, place: Place):
        super().__init__(place)
        expect_width(place, 8)
        if options.pool:
            expect_even(place, "options.pool")
        channels = place.channels
        self.pooled = options.pool
        self.query = Conv2d(channels, channels // 8, 1, bias=options.bias, spectral_norm=place.spectral_norm)
        self.key = Conv2d(channels, channels // 8, 1, bias=False, spectral_norm=place.spectral_norm)
        self.value = Conv2d(channels, channels // 2, 1, bias=False, spectral_norm=place.spectral_norm)
        self.out = Conv2d(channels // 2, channels, 1, bias=False, spectral_norm=place.spectral_norm)
        self.v = nn.Parameter(torch.zeros(channels // 8))

    def transform(self, x: Tensor) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)
        if self.pooled:
            key, value = F.max_pool2d(key, 2), F.max_pool2d(value, 2)
        size, key_size = x.shape[2:], key.shape[2:]
        query, key, value = (tokens(t).to(self.v.dtype) for t in (query, key, value))  # (N, 1, L or P, channels)
        self.record(lambda: AttentionMap("matrix", self.weights(query, key), size, key_size, True))
        per_query = key.shape[0] * key.shape[2] * key.shape[3]
        o = chunked_attention(self.weights, query, key, value, per_query)  # (N, 1, L, C/2)
        return self.out(from_tokens(o, size).to(x.dtype))

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """Return the weights, whose rows sum to 1: (N, 1, L, d), (N, 1, P, d) -> (N, 1, L, P)."""
        pairs = torch.tanh(query[:, :, :, None] + key[:, :, None])  # (N, 1, L, P, d)
        return torch.softmax(pairs @ self.v, dim=-1)
