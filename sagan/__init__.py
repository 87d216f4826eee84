"""Self-Attention GAN: train, sample, evaluate and look into the attention.

>>> from sagan import load_config, build_generator, build_discriminator, load_generator
>>> config = load_config("cifar10", ["model.generator.channels=32"])
>>> generator, discriminator = build_generator(config), build_discriminator(config)

Names are imported on first use: `import sagan` loads no torch.
"""

import importlib

from sagan.version import __version__ as __version__

_HOME = {
    "load_config": "sagan.presets",
    "build_generator": "sagan.models.build",
    "build_discriminator": "sagan.models.build",
    "load_generator": "sagan.runs.networks",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'sagan' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
