"""`sagan train`: train a run, or resume it."""

import inspect
import textwrap
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from sagan.commands.options import Flat, Given, Preset
from sagan.config import Config, to_yaml
from sagan.presets import describe_preset, load_settings, presets

RunOptions = Annotated[Config, Parameter(name="*", group=Group("options of a run", sort_key=2))]


@dataclass(frozen=True)
class Options:
    """What is done with the configuration."""

    print_config: bool = False
    """Print it, itself such a YAML file, and stop."""


def train(
    preset: Preset = None, /, *, given: Given, options: Flat[Options] = Options(), config: RunOptions = Config()
) -> None:
    """Train a run, or resume it: the same command continues where the run stopped.

    PRESET is one of the presets below or a YAML file. Options override what it says.

    examples:
      sagan train quickstart                        # a first run, in minutes
      sagan train quickstart --training.steps 3000  # resume it, for longer
      sagan train cifar10 --training.batch_size 32 --run_dir runs/small-batch
      sagan train cifar10 --print_config > mine.yaml     # a file to edit
      sagan train mine.yaml --run_dir runs/mine
      sagan train tiny-imagenet --data.path my-images    # your own images
      torchrun --nproc_per_node 2 -m sagan train cifar10 # on two GPUs
    """
    config = load_settings(preset, given.of(Config))
    if options.print_config:
        return print(to_yaml(config), end="")
    from sagan.api import train as train_run

    train_run(config)


def preset_table() -> str:
    """Return what each preset is, below its name."""
    width = max(map(len, presets()), default=0)
    lines = (f"  {name:{width}}  {describe_preset(name)}" for name in presets())
    return "\n".join(textwrap.fill(line, 79, subsequent_indent=" " * (width + 4)) for line in lines)


train.__doc__ = f"{inspect.getdoc(train)}\n\npresets:\n{preset_table()}"
