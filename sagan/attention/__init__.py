"""Attention systems that can stand in SAGAN's place. `KINDS` is the list; `resolve` turns a configuration into one."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields

import torch
from torch import nn

from sagan.attention.base import Attention, AttentionMap, Place
from sagan.attention.sagan import SaganAttention
from sagan.config import AttentionConfig, ConfigError

__all__ = ["KINDS", "Attention", "AttentionMap", "Place", "build_attention", "capture_maps", "resolve"]

KINDS: dict[str, type[Attention] | None] = {
    "none": None,
    "sagan": SaganAttention,
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


def build_attention(spec: AttentionConfig, place: Place) -> nn.Module:
    """The attention layer of a configuration for one place; the identity for kind `none`."""
    kind, options = resolve(spec)
    return nn.Identity() if kind is None else kind(options, place)


def attention_layers(network: nn.Module) -> dict[str, Attention]:
    """The attention layers of a network, by name."""
    return {name: m for name, m in network.named_modules() if isinstance(m, Attention)}


@contextmanager
def capture_maps(network: nn.Module) -> Iterator[dict[str, AttentionMap]]:
    """Collects, by layer name, the attention map of the last forward pass made inside the block.

    >>> with capture_maps(generator) as maps:
    ...     images = generator(z, y)
    >>> maps["blocks.1.attention"].weights.shape  # (N, heads, queries, keys)

    Costs nothing outside the block: forward passes neither compute nor keep a map.
    """
    maps: dict[str, AttentionMap] = {}

    def hook(name: str) -> Callable:
        @torch.no_grad()
        def keep(layer: Attention, inputs: tuple, output) -> None:
            maps[name] = layer.attention_map(inputs[0])

        return keep

    handles = [layer.register_forward_hook(hook(name)) for name, layer in attention_layers(network).items()]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()


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
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{option}.kind {name}: cannot be imported: {error}") from None
    if not (isinstance(kind, type) and issubclass(kind, Attention)):
        raise ConfigError(f"{option}.kind {name}: expected a subclass of sagan.attention.Attention, given {kind!r}")
    return kind


def _options(kind: type[Attention], spec: AttentionConfig, option: str) -> object:
    from jsonargparse import ArgumentError, ArgumentParser

    known = [f.name for f in fields(kind.Options)]
    for key in spec.options:
        if key not in known:
            raise ConfigError(
                f"{option}.options.{key}: kind {spec.kind} has no such option; it has {', '.join(known) or 'none'}"
            )
    parser = ArgumentParser(exit_on_error=False)
    if known:
        parser.add_class_arguments(kind.Options, None)
    try:
        return kind.Options(**parser.parse_object(spec.options).as_dict())
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"{option}.options {spec.options}: {' '.join(str(error).split())}") from None
