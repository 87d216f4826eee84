"""Networks built from a configuration."""

from typing import TypeVar

import torch

from sagan.config import Config, ConfigError
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.runtime.draws import generator_for

Network = TypeVar("Network", Generator, Discriminator)


def build_generator(config: Config) -> Generator:
    """Return the generator of a configuration, with initial weights that are a function of `training.seed`.

    Raise ConfigError if `data.num_classes` is null: then only the data set knows the number.
    """
    return _build(Generator, config, "generator")


def build_discriminator(config: Config) -> Discriminator:
    """Return the discriminator of a configuration, with initial weights that are a function of `training.seed`.

    Raise ConfigError if `data.num_classes` is null: then only the data set knows the number.
    """
    return _build(Discriminator, config, "discriminator")


def _build(cls: type[Network], config: Config, name: str) -> Network:
    data = config.data
    if data.num_classes is None:
        raise ConfigError(
            "data.num_classes null: expected a number; only a run that opens the data set can count its classes"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_for(config.training.seed, f"init {name}", 0).initial_seed())
        network = cls(getattr(config.model, name), data.size, data.channels, data.num_classes)
    return network.to(memory_format=torch.channels_last)
