"""Where the weights of a loaded network come from."""

from dataclasses import dataclass

from sagan.config import Config


@dataclass(frozen=True)
class Origin:
    """What a loaded network knows of its training: `network.origin`, None for a fresh one."""

    config: Config
    """Configuration of the run."""
    step: int
    """Finished steps of the run."""
    averaged: bool
    """Whether the weights are the exponential moving average (EMA)."""
    class_names: tuple[str, ...] | None
    """Name of each class; empty for an unconditional network, None if the file does not say (older versions)."""
