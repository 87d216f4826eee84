"""The origin of a loaded network's weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sagan.config import Config


@dataclass(frozen=True)
class Origin:
    """The training run behind a loaded network: `network.origin`, which is None for a fresh network."""

    config: Config
    """Configuration of the run."""
    step: int
    """Finished steps of the run."""
    averaged: bool
    """Whether the weights are the exponential moving average (EMA)."""
    class_names: tuple[str, ...] | None
    """Name of each class; empty for an unconditional network, None if the file does not say (older versions)."""

    def class_name(self, number: int) -> str:
        """Return the name of a class, such as "class 3" if the file does not say."""
        return class_name(self.class_names or (), number)


def class_name(names: Sequence[str], number: int) -> str:
    """Return the name of a class, such as "class 3" if there are too few names."""
    return names[number] if number < len(names) else f"class {number}"


class MayBeLoaded(Protocol):
    """A network that may come from a file."""

    origin: Origin | None


def origin_of(network: MayBeLoaded) -> Origin:
    """Return where the weights of a loaded network come from. Raise ValueError for a fresh network."""
    if network.origin is None:
        raise ValueError("expected a network that was loaded from a file")
    return network.origin
