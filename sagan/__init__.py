"""Self-Attention GAN: train it, sample from it, score it, see where it attends.

>>> from sagan import load_config, build_generator, build_discriminator, load_generator
>>> config = load_config("cifar10", ["model.generator.channels=32"])
>>> generator, discriminator = build_generator(config), build_discriminator(config)

Names are imported on first use: `import sagan` loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from sagan.version import __version__

if TYPE_CHECKING:
    from sagan.api import attention_figure, evaluate, sample, train
    from sagan.attention import capture_maps
    from sagan.config import ConfigError, UserError
    from sagan.models.build import build_discriminator, build_generator
    from sagan.presets import load_config
    from sagan.runs.networks import load_discriminator, load_generator
    from sagan.training.run import Callback

__all__ = [
    "Callback",
    "ConfigError",
    "UserError",
    "__version__",
    "attention_figure",
    "build_discriminator",
    "build_generator",
    "capture_maps",
    "evaluate",
    "load_config",
    "load_discriminator",
    "load_generator",
    "sample",
    "train",
]

_HOME = {
    "Callback": "sagan.training.run",
    "ConfigError": "sagan.config",
    "UserError": "sagan.config",
    "attention_figure": "sagan.api",
    "build_discriminator": "sagan.models.build",
    "build_generator": "sagan.models.build",
    "capture_maps": "sagan.attention",
    "evaluate": "sagan.api",
    "load_config": "sagan.presets",
    "load_discriminator": "sagan.runs.networks",
    "load_generator": "sagan.runs.networks",
    "sample": "sagan.api",
    "train": "sagan.api",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # or else type checkers would accept every name

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'sagan' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME[name]), name)
