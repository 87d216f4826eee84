"""The origin of a loaded network's weights."""

from dataclasses import dataclass

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
    """Name of each class; empty for an unconditional network, None if the file has none (older versions)."""
