"""What every attention system shares: where it stands, the fused product, and the map that a viewer may ask for."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Place:
    """Where an attention layer stands: what it takes and gives, and which normalisations its network uses."""

    channels: int
    size: tuple[int, int]  # height and width of the map
    spectral_norm: bool
    batch_norm: bool  # False in a discriminator, where no layer may mix the images of a batch


@dataclass(frozen=True)
class NoOptions:
    """For a kind without options."""


@dataclass(frozen=True)
class AttentionMap:
    """What a layer attended to, detached.

    kind "matrix": weights (N, heads, queries, keys), where row q says what query position q draws from; positions are
    numbered row by row on `query_size` and `key_size`.
    """

    kind: str
    weights: Tensor
    query_size: tuple[int, int]
    key_size: tuple[int, int]

    def entropy(self) -> Tensor:
        """Mean entropy of the rows, as a fraction of that of uniform weights, ln(keys): a scalar in [0, 1]."""
        w = self.weights
        return -torch.special.xlogy(w, w).sum(-1).mean() / torch.log(torch.tensor(float(w.shape[-1])))


class Attention(nn.Module):
    """Base class of the kinds: (N, C, H, W) -> (N, C, H, W).

    A kind is built as `Kind(options, place)`, with `options` an instance of its own frozen dataclass `Kind.Options`.
    `forward` returns the output alone; `attention_map(x)` returns the map for the same input, and only a viewer calls it.
    """

    Options = NoOptions

    def attention_map(self, x: Tensor) -> AttentionMap:
        raise NotImplementedError(f"{type(self).__name__} yields no map")


def tokens(x: Tensor) -> Tensor:
    """The pixels of a map as a sequence for one head: (N, C, H, W) -> (N, 1, HW, C), without a copy in channels_last."""
    return x.flatten(2).transpose(1, 2).unsqueeze(1)


def scaled_dot_product(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """softmax(scale Q K^T) V by a fused kernel that keeps no map: (N, heads, L, d), (N, heads, P, d), (N, heads, P, e)
    -> (N, heads, L, e).

    The CPU's fused kernel wants d = e and otherwise falls back to the explicit product; zeros appended to query and
    key (or to the value, and cut off after) change nothing in the result.
    """
    d, e = query.shape[-1], value.shape[-1]
    if d != e and query.device.type == "cpu":
        query, key = (F.pad(t, (0, max(e - d, 0))) for t in (query, key))
        value = F.pad(value, (0, max(d - e, 0)))
    return F.scaled_dot_product_attention(query, key, value, scale=scale)[..., :e]
