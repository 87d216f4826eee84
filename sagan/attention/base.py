"""Shared by all attention systems: their place in a network, their gate, and the recording of maps."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sagan import map_kinds
from sagan.config import ConfigError
from sagan.layers import BatchNorm

Size = tuple[int, int] | torch.Size  # height, width: (H, W) or x.shape[2:]
LETTERS = ("N", "heads", "C", "H", "W", "h", "w")  # sizes that a map is free to have


@dataclass(frozen=True)
class Place:
    """The place of an attention layer: the shape of its input, and what the network and the configuration require."""

    channels: int
    size: tuple[int, int]
    """Height and width of the map."""
    spectral_norm: bool
    batch_norm: bool
    """False in a discriminator, where no layer may mix the images of a batch."""
    norm: dict[str, Any] = field(default_factory=dict)
    """Options of batch norm, if it is allowed."""
    gate: Literal["zero", "none"] = "zero"
    """zero: start as the identity, through a gain that starts at 0. none: the published form."""

    @property
    def zero_weights(self) -> bool:
        """Return whether weights that the paper initializes to 0 start at 0.

        Under spectral norm they cannot, because 0 / 0 is NaN. Behind gate `zero` they need not.
        """
        return self.gate == "none" and not self.spectral_norm


@dataclass(frozen=True)
class NoOptions:
    """The options of a kind that has none."""


@dataclass(frozen=True)
class ProductOptions:
    """The options of kinds that score queries and keys by their products."""

    precision: Literal["float32", "bf16"] = "float32"
    """Dtype of queries, keys and values. With bf16 and unscaled logits, the output error is about 8e-3."""

    def cast(self, *tensors: Tensor) -> list[Tensor]:
        """Return the tensors in this precision; float32 leaves float64 unchanged."""
        bf16 = self.precision == "bf16"
        return [t.to(torch.bfloat16 if bf16 else torch.promote_types(t.dtype, torch.float32)) for t in tensors]


@dataclass(frozen=True, eq=False)  # equal tensors have no single truth value
class AttentionMap:
    """The map of a layer in one forward pass, detached from the graph.

    ================  =========================  ==================================================================
    kind              weights                    meaning
    ================  =========================  ==================================================================
    matrix            (N, heads, queries, keys)  row q holds the weights of all keys for query position q; positions
                                                 are numbered row by row on `query_size` and `key_size`, which both
                                                 cover the whole map (1 x 1 `query_size`: one row for all positions)
    windowed matrix   (N, s * s, queries, keys)  the same within each of s x s equal windows of `key_size`, numbered
                                                 row by row on a map of `query_size`
    channel gate      (N, C)                     factor of each channel
    spatial gate      (N, 1, H, W)               factor of each position
    full gate         (N, C, h, w)               factor of each value; a grid coarser than `query_size` is applied
                                                 after nearest up-sampling
    ================  =========================  ==================================================================
    """

    kind: map_kinds.Name
    weights: Tensor
    query_size: Size
    key_size: Size | None = None
    distribution: bool = False
    """Whether rows are non-negative and sum to 1."""

    def __post_init__(self):
        """Raise ValueError if the kind is unknown, or the weights or the sizes do not fit it."""
        if self.kind not in map_kinds.MAP_KINDS:
            raise ValueError(f"attention map {self.kind!r}: expected one of {', '.join(map_kinds.MAP_KINDS)}")
        (qh, qw), (kh, kw) = self.query_size, self.key_size or (0, 0)
        windows = (qh // max(kh, 1)) * (qw // max(kw, 1))
        expected = {
            "matrix": ("N", "heads", qh * qw, kh * kw),
            "windowed matrix": ("N", windows, kh * kw, kh * kw),
            "channel gate": ("N", "C"),
            "spatial gate": ("N", 1, "H", "W"),
            "full gate": ("N", "C", "h", "w"),
        }[self.kind]
        shape = tuple(self.weights.shape)
        if len(shape) != len(expected) or any(e not in (s, *LETTERS) for s, e in zip(shape, expected, strict=True)):
            sizes = f"query_size {(qh, qw)}" + (f" and key_size {(kh, kw)}" if self.key_size else ", no key_size")
            raise ValueError(
                f"attention map {self.kind!r}: the weights have shape {shape}, expected "
                f"({', '.join(map(str, expected))}) for {sizes}"
            )

    @property
    def form(self) -> map_kinds.MapKind:
        """Return the properties of this kind of map."""
        return map_kinds.MAP_KINDS[self.kind]

    def entropy(self) -> Tensor | None:
        """Return the mean entropy of the rows as a fraction of the uniform entropy, ln(keys): a scalar in [0, 1].

        Return None if the rows are not distributions.
        """
        if not self.distribution:
            return None
        w = self.weights
        return -torch.special.xlogy(w, w).sum(-1).mean() / torch.log(torch.tensor(float(w.shape[-1])))


class Attention(nn.Module):
    """Base class of the kinds: (N, C, H, W) -> (N, C, H, W).

        y = x + gamma T(x)          T(x) is a correction of x, the default
        y = x + gamma (T(x) - x)    T(x) replaces x, if `rewrites`

    gamma is a scalar outside spectral norm that starts at 0, so the layer is the identity until training changes it.
    With gate `none` there is no gamma (it counts as 1), and the layer has its published form.

    A kind is built as `Kind(options, place)`, with an instance of its own frozen dataclass `Kind.Options`. It defines
    `transform`, which is T. `forward` returns only the output; maps go to `record`, which passes them to a viewer. T
    must not draw random numbers: a resumed run could not repeat them.
    """

    Options: type = NoOptions
    rewrites = False

    def __init__(self, place: Place, gamma: bool | None = None):
        """Create gamma if `gamma` is true, or if it is None and the gate is `zero`."""
        super().__init__()
        self.place = place
        gamma = place.gate == "zero" if gamma is None else gamma
        self.gamma = nn.Parameter(torch.zeros(())) if gamma else None
        self.viewer: list[AttentionMap] | None = None
        self.bypassed = False  # True: the layer is the identity, as with gamma = 0

    def extra_repr(self) -> str:
        height, width = self.place.size
        return f"{self.place.channels} channels, {height}x{width}, gate={self.place.gate}"

    def transform(self, x: Tensor) -> Tensor:
        """Return T(x), of x's shape or a shape that broadcasts to it. Each kind defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define transform")

    def forward(self, x: Tensor) -> Tensor:
        """Return y, of x's shape. A viewer, if there is one, holds the maps of this pass only."""
        if self.viewer is not None:
            self.viewer.clear()
        if self.bypassed:
            return x
        t = self.transform(x).to(x.dtype)  # float32 parameters of a kind would turn bf16 activations into float32
        if self.gamma is None:
            return t.expand_as(x) if self.rewrites else x + t
        return x + self.gamma.to(x.dtype) * (t - x if self.rewrites else t)

    def record(self, make: Callable[[], AttentionMap]) -> None:
        """Pass a map to the viewer. Without a viewer, `make` is not called."""
        if self.viewer is not None:
            with torch.no_grad():
                attention_map = make()
                self.viewer.append(replace(attention_map, weights=attention_map.weights.detach()))


def batch_norm(channels: int, place: Place) -> nn.Module:
    """Return a batch norm layer, or the identity if the network has no batch norm."""
    return BatchNorm(channels, **place.norm) if place.batch_norm else nn.Identity()


def expect_width(place: Place, multiple: int) -> None:
    """Raise ConfigError unless the number of channels is a multiple of `multiple`."""
    if place.channels % multiple:
        raise ConfigError(f"expected a multiple of {multiple} channels")


def expect_even(place: Place, what: str) -> None:
    """Raise ConfigError if height or width is odd, because 2x2 pooling would drop positions."""
    if place.size[0] % 2 or place.size[1] % 2:
        raise ConfigError(f"{what} requires an even height and width")


def reduced_width(place: Place, reduction: int) -> int:
    """Return the number of channels divided by options.reduction. Raise ConfigError if it is not a divisor."""
    if reduction < 1 or place.channels % reduction:
        raise ConfigError(f"options.reduction {reduction}: expected a divisor of the number of channels")
    return place.channels // reduction
