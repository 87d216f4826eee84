"""Multi-head scaled dot-product attention over the pixels of a map (Vaswani et al. 2017), with 2-D positions."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, ProductOptions, Size, expect_even, expect_width
from sagan.attention.functional import dot_product_weights, from_tokens, scaled_dot_product, tokens
from sagan.config import ConfigError
from sagan.layers import Conv2d, drawn


@dataclass(frozen=True)
class MultiheadOptions(ProductOptions):
    """The options of kind `multihead`."""

    heads: int = 8
    """Number of heads, a divisor of the number of channels."""
    pool: Literal["none", "max", "average"] = "none"
    """2x2 pooling of keys and values."""
    positions: Literal["none", "sinusoidal", "learned", "relative"] = "none"
    """Position encoding. sinusoidal, learned: added to the input. relative: added to the logits, by offset."""
    bias: bool = False
    """Biases on the four projections."""


class MultiheadAttention(Attention):
    """Multi-head attention: y = x + gamma W_o concat_h(A_h V_h), A_h = softmax_k(Q_h K_h^T / sqrt(d)), d = C / heads.

    Q, K, V and W_o are 1x1 convolutions C -> C. 4 C^2 + 1 parameters, and 4 C more with biases. Positions:

    sinusoidal   a fixed table (`sinusoidal_positions`) is added to x before the projections.
    learned      a table (C, H, W) of parameters is added instead, drawn from N(0, 0.02^2) truncated at two standard
                 deviations.
    relative     the logits become (q . k + q . R^W[x_k - x_q] + q . R^H[y_k - y_q]) / sqrt(d), with tables of
                 (2W - 1 + 2H - 1) d parameters shared by all heads, drawn from N(0, 1/d) (Bello et al. 2019; initial
                 values as in Srinivas et al. 2021). A pooled key is placed at twice its index, which is our choice.

    Source: Vaswani et al. 2017, section 3.2; gamma and the pooling are ours. Raise ConfigError if the heads do not
    divide C, if C is not a multiple of 4 with sinusoidal positions, or if pooling is on and height or width is odd.
    """

    Options = MultiheadOptions
    table: Tensor

    def __init__(self, options: MultiheadOptions, place: Place):
        super().__init__(place)
        channels = place.channels
        height, width = place.size
        if options.heads < 1 or channels % options.heads:
            raise ConfigError(f"options.heads {options.heads}: expected a divisor of the number of channels")
        if options.pool != "none":
            expect_even(place, f"options.pool {options.pool}")
        self.options = options
        self.head_width = channels // options.heads
        self.pool = {"none": nn.Identity(), "max": nn.MaxPool2d(2), "average": nn.AvgPool2d(2)}[options.pool]
        conv1x1 = partial(Conv2d, kernel_size=1, bias=options.bias, spectral_norm=place.spectral_norm)
        self.query = conv1x1(channels, channels)
        self.key = conv1x1(channels, channels)
        self.value = conv1x1(channels, channels)
        self.out = conv1x1(channels, channels)
        # Position tables are outside spectral norm: they are inputs, not maps between activations.
        if options.positions == "sinusoidal":
            expect_width(place, 4)
            self.register_buffer("table", sinusoidal_positions(channels, height, width), persistent=False)
        if options.positions == "learned":
            init = partial(nn.init.trunc_normal_, std=0.02, a=-0.04, b=0.04)
            self.table = nn.Parameter(drawn(init, channels, height, width))
        if options.positions == "relative":
            init = partial(nn.init.normal_, std=self.head_width**-0.5)
            self.row_table = nn.Parameter(drawn(init, 2 * height - 1, self.head_width))
            self.column_table = nn.Parameter(drawn(init, 2 * width - 1, self.head_width))

    def transform(self, x: Tensor) -> Tensor:
        if self.options.positions in ("sinusoidal", "learned"):
            x = x + self.table.to(x.dtype)
        key, value = self.pool(self.key(x)), self.pool(self.value(x))
        size, key_size = x.shape[2:], key.shape[2:]
        heads = (tokens(t, self.options.heads) for t in (self.query(x), key, value))
        query, key, value = self.options.cast(*heads)  # (N, heads, L or P, d)
        if self.options.positions == "relative":
            query, key = self.with_offsets(query, key, key_size)
        scale = self.head_width**-0.5
        self.record(lambda: AttentionMap("matrix", dot_product_weights(query, key, scale), size, key_size, True))
        o = scaled_dot_product(query, key, value, scale)  # (N, heads, L, d)
        return self.out(from_tokens(o, size).to(x.dtype))

    def with_offsets(self, query: Tensor, key: Tensor, key_size: Size) -> tuple[Tensor, Tensor]:
        """Extend query and key so that their product includes the relative logits, without an (L, P) table of them.

        The query is extended by its logits for every row and every column of keys, the key by the one-hot codes of its
        own row and column: (N, heads, L, d + H' + W') and (N, heads, P, d + H' + W').
        """
        (height, width), (rows, columns) = self.place.size, key_size
        grid = query.unflatten(2, (height, width))  # (N, heads, H, W, d)
        by_row = torch.einsum("nhyxd,ykd->nhyxk", grid, offsets(self.row_table, height, rows).to(query.dtype))
        by_column = torch.einsum("nhyxd,xkd->nhyxk", grid, offsets(self.column_table, width, columns).to(query.dtype))
        query = torch.cat([grid, by_row, by_column], dim=-1).flatten(2, 3)
        row = torch.eye(rows, dtype=key.dtype, device=key.device).repeat_interleave(columns, dim=0)
        column = torch.eye(columns, dtype=key.dtype, device=key.device).repeat(rows, 1)
        place = torch.cat([row, column], dim=1).expand(*key.shape[:2], -1, -1)  # (N, heads, P, H' + W')
        return query, torch.cat([key, place], dim=-1)


def offsets(table: Tensor, queries: int, keys: int) -> Tensor:
    """Look up the rows of a table by key position minus query position: (2 queries - 1, d) -> (queries, keys, d)."""
    stride = queries // keys
    key_index = stride * torch.arange(keys, device=table.device)
    query_index = torch.arange(queries, device=table.device)
    return table[key_index[None, :] - query_index[:, None] + queries - 1]


def sinusoidal_positions(channels: int, height: int, width: int) -> Tensor:
    """Return sin(y w), sin(x w), cos(y w), cos(x w) for C/4 frequencies w_k = 10000^(-k / (C/4)): (C, H, W).

    Source: Vaswani et al. 2017, section 3.5, in the 2-D form of vision transformers.
    """
    quarter = channels // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    y = (torch.arange(height)[None, :] * frequency[:, None])[:, :, None].expand(-1, -1, width)  # (C/4, H, W)
    x = (torch.arange(width)[None, :] * frequency[:, None])[:, None, :].expand(-1, height, -1)
    return torch.cat([y.sin(), x.sin(), y.cos(), x.cos()]).float()
