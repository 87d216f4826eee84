"""From a configuration to networks."""

import torch
from torch import nn

from sagan.config import Config, ConfigError
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.runtime.draws import generator_for


def build_generator(config: Config) -> Generator:
    """The generator of a configuration, with initial weights that are a function of `training.seed`.

    Raises ConfigError where `data.num_classes` is null: only the data know it then.
    """
    return _build(Generator, config, "generator")


def build_discriminator(config: Config) -> Discriminator:
    """The discriminator of a configuration, with initial weights that are a function of `training.seed`.

    Raises ConfigError where `data.num_classes` is null: only the data know it then.
    """
    return _build(Discriminator, config, "discriminator")


def _build(cls: type[nn.Module], config: Config, name: str) -> nn.Module:
    data = config.data
    if data.num_classes is None:
        raise ConfigError(
            "data.num_classes null: it is known once the data are opened; give the number to build without them"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_for(config.training.seed, f"init {name}", 0).initial_seed())
        network = cls(getattr(config.model, name), data.size, data.channels, data.num_classes)
    return network.to(memory_format=torch.channels_last)
