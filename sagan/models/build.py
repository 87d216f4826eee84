"""Networks built from a configuration."""

import threading
from collections.abc import Callable
from typing import TypeVar

import torch

from sagan.attention import KINDS
from sagan.config import Config, ConfigError
from sagan.config.errors import one_line
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.runtime.draws import rng_for

BUILDING = threading.Lock()
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


def build_skeleton(build: Callable[[Config], Network], config: Config) -> Network:
    """Return the network that `build` returns, with names and shapes but no memory. Raise ConfigError as it does.

    An attention kind from outside this package is built with memory if its layers cannot be built without numbers.
    """
    try:
        with torch.device("meta"):
            return build(config)
    except ConfigError:
        raise
    except Exception as error:  # sizes too large for any machine, or code that needs numbers
        parts = (config.model.generator, config.model.discriminator)
        if all(part.attention.kind in KINDS for part in parts):
            reason = str(error).partition("\n")[0]  # torch adds the stack of its C++ code
            raise ConfigError(f"the networks cannot be built: {one_line(reason)}") from error
        return build(config)


def _build(cls: type[Network], config: Config, name: str) -> Network:
    data = config.data
    if data.num_classes is None:
        raise ConfigError(
            "data.num_classes null: expected a number; only a run that opens the data set can count its classes"
        )
    # An attention kind may draw from torch's global generator: one thread at a time.
    with BUILDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng_for(config.training.seed, f"init {name}", 0).initial_seed())
        network = cls(getattr(config.model, name), data.size, data.channels, data.num_classes)
    return network.to(memory_format=torch.channels_last)
