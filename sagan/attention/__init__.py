"""Attention systems: SAGAN's and others that can replace it. `KINDS` lists them; `resolve` finds the configured one."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import cast

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
from sagan.config.dotted import already_imported, import_path, is_dotted
from sagan.config.types import shown
from sagan.layers import Conv2d, Linear

__all__ = [
    "KINDS",
    "Attention",
    "AttentionMap",
    "Conv2d",
    "Linear",
    "Place",
    "ablate_layers",
    "attention_layers",
    "build_attention",
    "capture_maps",
    "import_modules",
    "is_loaded",
    "resolve",
    "without_layers",
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
    """Return the class and the options of the configured kind; (None, None) for kind `none`.

    This is the only function that turns a name into an attention system. `option` is the name of `spec` in the
    configuration, for errors. Raise ConfigError for an unknown kind or option.
    """
    kind = _kind(spec.kind, option)
    if kind is None:
        if spec.options:
            raise ConfigError(f"{option}.options {spec.options}: kind none has no options")
        return None, None
    return kind, _options(kind, spec, option)


def is_loaded(kind: str) -> bool:
    """Return whether `resolve` need not import a kind, because it is in KINDS or in a module imported already."""
    found = already_imported(kind)
    return kind in KINDS or (isinstance(found, type) and issubclass(found, Attention))


def import_modules(names: Iterable[str]) -> None:
    """Import modules so that a file may name the attention kinds in them. Raise ConfigError, naming the module."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a user's module may raise anything
            raise ConfigError(f"trust_module {name}: cannot be imported: {type(error).__name__}: {error}") from error


def build_attention(spec: AttentionConfig, place: Place, option: str = "attention") -> nn.Module:
    """Return the attention layer of a configuration for one place; the identity for kind `none`.

    Raise ConfigError if the kind does not fit the place, or as `resolve` does.
    """
    kind, options = resolve(spec, option)
    if kind is None:
        return nn.Identity()
    build = cast(Callable[[object, Place], Attention], kind)  # the constructor of a kind takes its options first
    try:
        return build(options, replace(place, gate=spec.gate))
    except ConfigError as error:
        height, width = place.size
        raise ConfigError(
            f"{option}: kind {spec.kind} does not fit a {height}x{width} map with {place.channels} channels: {error}"
        ) from None


def attention_layers(network: nn.Module) -> dict[str, Attention]:
    """Return the attention layers of a network by name."""
    return {name: m for name, m in network.named_modules() if isinstance(m, Attention)}


@contextmanager
def capture_maps(network: nn.Module) -> Iterator[dict[str, list[AttentionMap]]]:
    """Collect, by layer name, the attention maps of the last forward pass inside the block.

    >>> with capture_maps(generator) as maps:
    ...     images = generator(z, y)
    >>> maps["blocks.1.attention"][0].weights.shape  # (N, heads, queries, keys)

    A layer may have several maps (a channel gate and a spatial gate, or one per level of a pyramid) or none. Outside
    the block, forward passes neither compute nor store maps. Raise TypeError if `network` is not a module.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"capture_maps takes a network, such as load_generator(run) returns; given {network!r}")
    layers = attention_layers(network)
    maps: dict[str, list[AttentionMap]] = {name: [] for name in layers}
    outer = {name: layer.viewer for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.viewer = maps[name]
    try:
        yield maps
    finally:
        for name, layer in layers.items():
            layer.viewer = outer[name]


@contextmanager
def without_layers(network: nn.Module, layer: str, option: str = "layer") -> Iterator[list[str]]:
    """Turn attention layers into the identity, as `ablate_layers` does, for the duration of the block."""
    before = {name: module.bypassed for name, module in attention_layers(network).items()}
    names = ablate_layers(network, layer, option)
    try:
        yield names
    finally:
        for name, module in attention_layers(network).items():
            module.bypassed = before[name]


def ablate_layers(network: nn.Module, layer: str, option: str = "layer") -> list[str]:
    """Turn one attention layer of a network, or "all", into the identity, and return the names.

    The effect is that of gamma = 0, for kinds without gamma too. Raise ConfigError, which begins with `option`, if
    there is no such layer.
    """
    layers = attention_layers(network)
    names = list(layers) if layer == "all" else [layer]
    if not names or names[0] not in layers:
        raise ConfigError(
            f"{option} {layer}: expected all, or one of the attention layers: {', '.join(layers) or 'none'}"
        )
    for name in names:
        layers[name].bypassed = True
    return names


def _kind(name: str, option: str) -> type[Attention] | None:
    if name in KINDS:
        return KINDS[name]
    known = ", ".join(KINDS)
    if not is_dotted(name):
        raise ConfigError(
            f"{option}.kind {shown(name)}: expected one of {known}, "
            "or the path of a class such as my_module.MyAttention"
        )
    kind = import_path(name, f"{option}.kind")
    if not (isinstance(kind, type) and issubclass(kind, Attention)):
        raise ConfigError(f"{option}.kind {name}: expected a subclass of sagan.attention.Attention, got {kind!r}")
    if kind.transform is Attention.transform and kind.forward is Attention.forward:
        raise ConfigError(f"{option}.kind {name}: expected a class that defines transform")
    if not (isinstance(kind.Options, type) and is_dataclass(kind.Options)):
        raise ConfigError(f"{option}.kind {name}: expected a dataclass as its Options, got {kind.Options!r}")
    return kind


def _options(kind: type[Attention], spec: AttentionConfig, option: str) -> object:
    known = [f.name for f in fields(kind.Options)]
    for key in spec.options:
        if key not in known:
            raise ConfigError(
                f"{option}.options.{shown(key)}: not an option of kind {spec.kind}, "
                f"which has {', '.join(known) or 'none'}"
            )
    for f in fields(kind.Options):
        if f.name not in spec.options and f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(f"{option}.options.{f.name}: kind {spec.kind} has no default for it, so give a value")
    if not known:
        return kind.Options()
    settings = [Setting(key, value, f"{option}.options.") for key, value in spec.options.items()]
    try:
        return read(kind.Options, settings)
    except ConfigError:
        raise
    except ValueError as error:  # raised by a __post_init__
        raise ConfigError(f"{option}.options {spec.options}: {error}") from error
