"""What every attention system shares: where it stands, how it starts, and the maps that a viewer may ask for."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sagan import map_kinds
from sagan.config import ConfigError
from sagan.layers import BatchNorm

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Place:
    """Where an attention layer stands: what it takes and gives, and what network and configuration ask of it."""

    channels: int
    size: Size
    spectral_norm: bool
    batch_norm: bool
    """False in a discriminator, where no layer may mix the images of a batch."""
    norm: dict[str, Any] = field(default_factory=dict)
    """Options of batch norm, where it is allowed."""
    gate: Literal["zero", "none"] = "zero"
    """zero: the identity at first, by a gain of 0. none: as published."""

    @property
    def zero_weights(self) -> bool:
        """Whether a weight that the paper starts at 0 does so. Under spectral norm it cannot (0 / 0 is NaN), and behind
        gate `zero` it need not."""
        return self.gate == "none" and not self.spectral_norm


@dataclass(frozen=True)
class NoOptions:
    """For a kind without options."""


@dataclass(frozen=True)
class ProductOptions:
    """For a kind that weighs values by products of queries and keys."""

    precision: Literal["float32", "bf16"] = "float32"
    """Of query, key and value. Logits that the width does not scale cost about 8e-3 of error in the output in bf16."""

    def cast(self, *tensors: Tensor) -> list[Tensor]:
        """The tensors in that precision (float64 stays)."""
        bf16 = self.precision == "bf16"
        return [t.to(torch.bfloat16 if bf16 else torch.promote_types(t.dtype, torch.float32)) for t in tensors]


@dataclass(frozen=True)
class AttentionMap:
    """What a layer attended to, detached.

    ================  =========================  ==================================================================
    kind              weights                    meaning
    ================  =========================  ==================================================================
    matrix            (N, heads, queries, keys)  row q is what query position q draws from; positions count row by row
                                                 on `query_size` and `key_size`, which both cover the whole map (a
                                                 1 x 1 `query_size`: all positions draw the same)
    windowed matrix   (N, s * s, queries, keys)  the same inside each of s x s equal windows of `key_size`, counted
                                                 row by row on a map of `query_size`
    channel gate      (N, C)                     factor of each channel
    spatial gate      (N, 1, H, W)               factor of each position
    full gate         (N, C, h, w)               factor of each value; a grid coarser than `query_size` stands for its
                                                 nearest up-sampling
    ================  =========================  ==================================================================
    """

    kind: map_kinds.Name
    weights: Tensor
    query_size: Size
    key_size: Size | None = None
    distribution: bool = False
    """Whether rows are >= 0 and sum to 1."""

    @property
    def form(self) -> map_kinds.MapKind:
        """Return the description of the map's kind."""
        return map_kinds.MAP_KINDS[self.kind]

    def entropy(self) -> Tensor | None:
        """Mean entropy of the rows, as a fraction of that of uniform weights, ln(keys): a scalar in [0, 1].

        None for a map whose rows are no distributions.
        """
        if not self.distribution:
            return None
        w = self.weights
        return -torch.special.xlogy(w, w).sum(-1).mean() / torch.log(torch.tensor(float(w.shape[-1])))


class Attention(nn.Module):
    """Base class of the kinds: (N, C, H, W) -> (N, C, H, W).

        y = x + gamma T(x)          T(x) is a correction of x, the default
        y = x + gamma (T(x) - x)    T(x) takes the place of x: `rewrites`

    gamma is a scalar that starts at 0, outside spectral norm: the layer is the identity until training asks for it.
    With gate `none` there is no gamma (it counts as 1), and the layer is T as published.

    A kind is built as `Kind(options, place)`, with `options` an instance of its own frozen dataclass `Kind.Options`,
    and defines `transform`, which is T. `forward` returns the output alone; maps go to `record`, for a viewer that
    looks. T may not draw random numbers: a resumed run could not repeat them.
    """

    Options: type = NoOptions
    rewrites = False

    def __init__(self, place: Place, gamma: bool | None = None):
        """`gamma`: whether there is one, for a kind whose published form answers that; None leaves it to the gate."""
        super().__init__()
        self.place = place
        gamma = place.gate == "zero" if gamma is None else gamma
        self.gamma = nn.Parameter(torch.zeros(())) if gamma else None
        self.viewer: list[AttentionMap] | None = None

    def extra_repr(self) -> str:
        height, width = self.place.size
        return f"{self.place.channels} channels, {height}x{width}, gate={self.place.gate}"

    def transform(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not define transform")

    def forward(self, x: Tensor) -> Tensor:
        if self.viewer is not None:
            self.viewer.clear()
        t = self.transform(x)
        if self.gamma is None:
            return t if self.rewrites else x + t
        return x + self.gamma.to(x.dtype) * (t - x if self.rewrites else t)

    def record(self, make: Callable[[], AttentionMap]) -> None:
        """Hands a map to the viewer, if there is one; only then is it made."""
        if self.viewer is not None:
            with torch.no_grad():
                attention_map = make()
                self.viewer.append(replace(attention_map, weights=attention_map.weights.detach()))


def batch_norm(channels: int, place: Place) -> nn.Module:
    """Batch norm where the network has it, the identity where it does not."""
    return BatchNorm(channels, **place.norm) if place.batch_norm else nn.Identity()


def expect_width(place: Place, multiple: int) -> None:
    """Raises ConfigError if the width is no multiple of `multiple`."""
    if place.channels % multiple:
        raise ConfigError(f"expected a width that is a multiple of {multiple}")


def expect_even(place: Place, what: str) -> None:
    """Raises ConfigError if height or width is odd, so that 2x2 pooling would drop positions."""
    if place.size[0] % 2 or place.size[1] % 2:
        raise ConfigError(f"{what} expects an even height and width")


def reduced_width(place: Place, reduction: int) -> int:
    """The width divided by options.reduction. Raises ConfigError if it does not divide it."""
    if reduction < 1 or place.channels % reduction:
        raise ConfigError(f"options.reduction {reduction}: expected a divisor of the width")
    return place.channels // reduction
