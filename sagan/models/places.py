"""The places for attention in each network, and the attention layers of a configuration."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from sagan.attention import KINDS, Place, build_attention, resolve
from sagan.config import Config, ConfigError, GeneratorConfig, NetworkConfig
from sagan.models.sizes import (
    DISCRIMINATOR_WIDTHS,
    GENERATOR_WIDTHS,
    Size,
    attention_blocks,
    discriminator_block_sizes,
    generator_block_sizes,
    split_size,
)


def block_places(config: NetworkConfig, size: Size) -> list[Place]:
    """Return the place after each block of a network for images of `size`, in forward order.

    A place has the channels and the size of the block's output, and says what the network allows there. Raise
    ConfigError if no network exists for that size.
    """
    n, _ = split_size(size)
    if isinstance(config, GeneratorConfig):
        norm = norm_options(config)
        outputs = zip(GENERATOR_WIDTHS[n][1], generator_block_sizes(size), strict=True)
        return [Place(config.channels * m, s, config.spectral_norm, batch_norm=True, norm=norm) for m, s in outputs]
    outputs = zip(DISCRIMINATOR_WIDTHS[n], discriminator_block_sizes(size), strict=True)
    return [Place(config.channels * m, s, config.spectral_norm, batch_norm=False) for m, s in outputs]


def norm_options(config: GeneratorConfig) -> dict[str, Any]:
    """Return the options of every batch norm in a generator."""
    return dict(momentum=config.norm_momentum, eps=config.norm_eps, sync=config.norm_sync)


def attention_by_block(config: NetworkConfig, size: Size) -> Iterator[nn.Module]:
    """Yield the attention layer of each block in forward order, or the identity for a block without attention.

    Layers are built lazily. So a network that builds its blocks in turn draws the initial weights of each block right
    after those of its attention. Raise ConfigError if no block has an output of a requested size, or if the kind does
    not fit a place.
    """
    network = "generator" if isinstance(config, GeneratorConfig) else "discriminator"
    option, spec = f"model.{network}.attention", config.attention
    resolve(spec, option)
    places = block_places(config, size)
    attended: set[int] = set()
    if spec.kind != "none":
        attended = attention_blocks([place.size for place in places], spec.resolutions, f"{option}.resolutions", size)
    for i, place in enumerate(places):
        yield build_attention(spec, place, option) if i in attended else nn.Identity()


def check_attention(config: Config) -> None:
    """Raise ConfigError if the attention of either network cannot be built.

    The layers are built to find out, because each kind checks its own requirements. No memory is allocated for weights,
    except for a kind from outside this package that cannot be built without numbers.
    """
    with torch.random.fork_rng(devices=[]):
        for network in ("generator", "discriminator"):
            part = getattr(config.model, network)
            try:
                with torch.device("meta"):
                    build_all(part, config.data.size)
            except ConfigError:
                raise
            except Exception as error:
                if part.attention.kind not in KINDS:
                    build_all(part, config.data.size)
                elif "overflow" in str(error).lower():
                    raise ConfigError(f"model.{network}.channels {part.channels}: too large to allocate") from None
                else:
                    raise


def build_all(part: NetworkConfig, size: Size) -> None:
    """Build the attention layers of a network, and drop them."""
    for _ in attention_by_block(part, size):
        pass
