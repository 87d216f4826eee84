"""Attention as pure tensor functions: pixels as tokens, and weighted sums in bounded memory."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sagan.attention.base import Size

CHUNK_ELEMENTS = 2**24  # limit of an intermediate tensor in `chunked_attention`: 64 MiB in float32


def tokens(x: Tensor, heads: int = 1) -> Tensor:
    """Return the pixels of a map as a sequence, row by row: (N, C, H, W) -> (N, heads, HW, C / heads).

    Each head has consecutive channels. In channels_last nothing is copied.
    """
    return x.flatten(2).unflatten(1, (heads, -1)).transpose(2, 3)


def from_tokens(t: Tensor, size: Size) -> Tensor:
    """Invert `tokens`: (N, heads, HW, d) -> (N, heads d, H, W), in channels_last."""
    return t.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, size)


def window_tokens(x: Tensor, s: int) -> Tensor:
    """Return the pixels of s x s equal windows, one sequence per window: (N, C, H, W) -> (N, s s, HW / s s, C)."""
    grid = x.unflatten(3, (s, -1)).unflatten(2, (s, -1))  # (N, C, s, h, s, w)
    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)


def from_window_tokens(t: Tensor, s: int, size: Size) -> Tensor:
    """Invert `window_tokens`: (N, s s, HW / s s, C) -> (N, C, H, W), in channels_last."""
    h, w = size[0] // s, size[1] // s
    grid = t.unflatten(2, (h, w)).unflatten(1, (s, s))  # (N, s, s, h, w, C)
    return grid.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def scaled_dot_product(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Return softmax(scale Q K^T) V by a fused kernel that stores no map.

    (N, heads, L, d), (N, heads, P, d), (N, heads, P, e) -> (N, heads, L, e). The fused kernels require dense rows.
    The CPU's also requires d = e, and the GPU's require multiples of 8 in bf16. Otherwise torch falls back to the
    explicit product. So all three are padded with zeros, which do not change the result.
    """
    d, e = query.shape[-1], value.shape[-1]
    if query.device.type == "cpu":
        query, key = (F.pad(t, (0, max(e - d, 0))) for t in (query, key))
        value = F.pad(value, (0, max(d - e, 0)))
    elif query.device.type == "cuda" and (d % 8 or e % 8):
        query, key, value = (F.pad(t, (0, -t.shape[-1] % 8)) for t in (query, key, value))
    query, key, value = (t if t.stride(-1) == 1 else t.contiguous() for t in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=scale)[..., :e]


def dot_product_weights(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Return the map of `scaled_dot_product` for a viewer: (N, heads, L, P), float32 or float64."""
    logits = query @ key.mT
    return torch.softmax(scale * logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)


def chunked_attention(
    weigh: Callable[[Tensor, Tensor], Tensor], query: Tensor, key: Tensor, value: Tensor, per_query: int
) -> Tensor:
    """Return weigh(query, key) @ value for weights that no fused kernel computes: (N, heads, L, e).

    Queries are processed in chunks, so that an intermediate tensor with `per_query` elements per query stays within
    CHUNK_ELEMENTS. The backward pass recomputes the weights instead of storing them.
    """

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return weigh(query, key) @ value

    if torch.compiler.is_exporting():  # a graph has no backward pass, and chunks would fix its batch size
        return attend(query, key, value)
    chunks = query.split(max(1, CHUNK_ELEMENTS // per_query), dim=2)
    return torch.cat(
        [checkpoint(attend, q, key, value, use_reentrant=False, preserve_rng_state=False) for q in chunks], dim=2
    )
