"""The Python interface: what `from sagan import ...` offers beyond building and loading networks."""

from collections.abc import Sequence
from pathlib import Path

from sagan.config import Config
from sagan.training import loop
from sagan.training.run import Callback
from sagan.viewing.recorder import AttentionRecorder


def train(config: Config, callbacks: Sequence[Callback] = ()) -> Path:
    """Train the run of `config.run_dir`, or resume it from its newest checkpoint. Return that directory.

    `callbacks` are called after each step and after each evaluation. Raise ConfigError if the run there has another
    configuration, and UserError if data or weights are missing or a file cannot be written.
    """
    return loop.train(config, callbacks=(AttentionRecorder(), *callbacks))
