"""Attention systems that can stand in SAGAN's place. `KINDS` is the list; `resolve` turns a configuration into one."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace

from torch import nn

from sagan.attention.additive import AdditiveAttention
from sagan.attention.base import Attention, AttentionMap, Place
from sagan.attention.cbam import Cbam
from sagan.attention.coordinate import CoordinateAttention
from sagan.attention.gather_excite import GatherExcite
from sagan.attention.global_context import GlobalContext
from sagan.attention.multihead import MultiheadAttention
from sagan.attention.non_local import NonLocalBlock
from sagan.attention.object_context import AspContext, BaseContext, PyramidContext
from sagan.attention.residual_attention import ResidualAttention
from sagan.attention.sagan import ResidualControl, SaganAttention
from sagan.attention.squeeze_excite import EfficientChannelAttention, SqueezeExcite
from sagan.config import AttentionConfig, ConfigError, Setting, read
from sagan.layers import Conv2d, Linear

__all__ = [
    "KINDS",
    "Attention",
    "AttentionMap",
    "Conv2d",
    "Linear",
    "Place",
    "attention_layers",
    "build_attention",
    "capture_maps",
    "resolve",
]

KINDS: dict[str, type[Attention] | None] = {
    "none": None,
    "residual": ResidualControl,
    "sagan": SaganAttention,
    "multihead": MultiheadAttention,
    "additive": AdditiveAttention,
    "non-local": NonLocalBlock,
    "base-oc": BaseContext,
    "pyramid-oc": PyramidContext,
    "asp-oc": AspContext,
    "se": SqueezeExcite,
    "ge": GatherExcite,
    "cbam": Cbam,
    "residual-attention": ResidualAttention,
    "global-context": GlobalContext,
    "eca": EfficientChannelAttention,
    "coordinate": CoordinateAttention,
}


def resolve(spec: AttentionConfig, option: str = "attention") -> tuple[type[Attention] | None, object]:
    """The class and the options of a kind. This is the one place where a name becomes an attention system.

    `option` is how the configuration calls `spec`. Raises ConfigError for an unknown kind or option.
    """
    kind = _kind(spec.kind, option)
    if kind is None:
        if spec.options:
            raise ConfigError(f"{option}.options {spec.options}: kind none has no options")
        return None, None
    return kind, _options(kind, spec, option)


def build_attention(spec: AttentionConfig, place: Place, option: str = "attention") -> nn.Module:
    """The attention layer of a configuration for one place; the identity for kind `none`.

    Raises ConfigError where the kind cannot stand there, or as `resolve` does.
    """
    kind, options = resolve(spec, option)
    if kind is None:
        return nn.Identity()
    try:
        return kind(options, replace(place, gate=spec.gate))
    except ConfigError as error:
        height, width = place.size
        raise ConfigError(
            f"{option}: kind {spec.kind} cannot stand on a {height}x{width} map of width {place.channels}: {error}"
        ) from None


def attention_layers(network: nn.Module) -> dict[str, Attention]:
    """The attention layers of a network, by name."""
    return {name: m for name, m in network.named_modules() if isinstance(m, Attention)}


@contextmanager
def capture_maps(network: nn.Module) -> Iterator[dict[str, list[AttentionMap]]]:
    """Collects, by layer name, the attention maps of the last forward pass made inside the block.

    >>> with capture_maps(generator) as maps:
    ...     images = generator(z, y)
    >>> maps["blocks.1.attention"][0].weights.shape  # (N, heads, queries, keys)

    A layer may have several maps (a channel and a spatial gate, one for each level of a pyramid) or none. Outside the
    block, forward passes neither compute nor keep a map.
    """
    layers = attention_layers(network)
    maps: dict[str, list[AttentionMap]] = {name: [] for name in layers}
    for name, layer in layers.items():
        layer.viewer = maps[name]
    try:
        yield maps
    finally:
        for layer in layers.values():
            layer.viewer = None


def _kind(name: str, option: str) -> type[Attention] | None:
    if name in KINDS:
        return KINDS[name]
    known = ", ".join(KINDS)
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ConfigError(
            f"{option}.kind {name}: expected one of {known}, or the path of a class such as my_module.MyAttention"
        )
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module of the user's fails in its own way
        raise ConfigError(f"{option}.kind {name}: cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, Attention)):
        raise ConfigError(f"{option}.kind {name}: expected a subclass of sagan.attention.Attention, given {kind!r}")
    if not (isinstance(kind.Options, type) and is_dataclass(kind.Options)):
        raise ConfigError(f"{option}.kind {name}: expected a dataclass as its Options, given {kind.Options!r}")
    return kind


def _options(kind: type[Attention], spec: AttentionConfig, option: str) -> object:
    known = [f.name for f in fields(kind.Options)]
    for key in spec.options:
        if key not in known:
            raise ConfigError(
                f"{option}.options.{key}: kind {spec.kind} has no such option; it has {', '.join(known) or 'none'}"
            )
    if not known:
        return kind.Options()
    settings = [Setting(key, value, f"{option}.options.") for key, value in spec.options.items()]
    try:
        return read(kind.Options, settings)
    except ConfigError:
        raise
    except ValueError as error:  # raised by a __post_init__
        raise ConfigError(f"{option}.options {spec.options}: {error}") from error
