"""Self-attention as SAGAN has it (Zhang et al. 2019, section 3)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, scaled_dot_product, tokens
from sagan.config import ConfigError
from sagan.models.layers import Conv2d


@dataclass(frozen=True)
class SaganOptions:
    precision: Literal["float32", "bf16"] = "float32"
    """Of query, key and value. The logits are not scaled by the width, so bf16 costs about 8e-3 of error in the output."""


class SaganAttention(Attention):
    """The authors' code: y = x + gamma W_o sum_k softmax_k(query . key) value, with no 1/sqrt(d) on the logits.

    query (the paper's g; theta in the code): C -> C/8. key (f; phi): C -> C/8, then 2x2 max-pooling. value (h; g in the
    code): C -> C/2, then 2x2 max-pooling. W_o (v): C/2 -> C. All are 1x1 convolutions without bias. 1.25 C^2 + 1
    parameters. The paper's text differs: it neither pools nor widens the value.

    Raises ConfigError where C is no multiple of 8, or height or width is odd.
    """

    Options = SaganOptions

    def __init__(self, options: SaganOptions, place: Place):
        super().__init__()
        channels, (height, width) = place.channels, place.size
        if channels % 8:
            raise ConfigError(f"attention kind sagan: expected a width that is a multiple of 8, given {channels}")
        if height % 2 or width % 2:
            raise ConfigError(
                f"attention kind sagan: expected an even height and width to pool, given {height}x{width}"
            )
        self.dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
        convolution = dict(bias=False, spectral_norm=place.spectral_norm)
        self.query = Conv2d(channels, channels // 8, 1, **convolution)
        self.key = Conv2d(channels, channels // 8, 1, **convolution)
        self.value = Conv2d(channels, channels // 2, 1, **convolution)
        self.out = Conv2d(channels // 2, channels, 1, **convolution)
        # The block is the identity until training asks for attention. Outside spectral norm, which would make 0 NaN.
        self.gamma = nn.Parameter(torch.zeros(()))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query (N, 1, L, C/8), key (N, 1, L/4, C/8) and value (N, 1, L/4, C/2)."""
        key, value = F.max_pool2d(self.key(x), 2), F.max_pool2d(self.value(x), 2)
        return tuple(tokens(t).to(self.dtype) for t in (self.query(x), key, value))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(x)
        o = scaled_dot_product(query, key, value, scale=1.0)  # (N, 1, L, C/2)
        o = o.squeeze(1).transpose(1, 2).unflatten(2, x.shape[2:])  # (N, C/2, H, W)
        return x + self.gamma.to(x.dtype) * self.out(o.to(x.dtype))

    def attention_map(self, x: Tensor) -> AttentionMap:
        query, key, _ = self.project(x)
        weights = torch.softmax((query @ key.mT).float(), dim=-1)  # (N, 1, L, L/4)
        height, width = x.shape[2:]
        return AttentionMap("matrix", weights.detach(), (height, width), (height // 2, width // 2))
