"""`sagan train`: train a run, or resume it."""

import inspect
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from sagan.commands.options import Flat, Given, Preset
from sagan.config import DRAWN, LOCAL, Config, ConfigError, to_yaml
from sagan.config.types import NonNegative
from sagan.config.writing import MACHINE_OPTIONS
from sagan.presets import describe_preset, load_settings, presets
from sagan.runtime.wording import counted, printable

RunOptions = Annotated[Config, Parameter(name="*", group=Group("options of a run", sort_key=2))]


@dataclass(frozen=True)
class Options:
    """What to do with the configuration."""

    print_config: bool = False
    """Print the configuration as a YAML file that can be given as PRESET, and stop."""
    dry_run: bool = False
    """Print what would run, and stop: nothing is written or downloaded, and no image is read."""
    profile: NonNegative = 0
    """Write a trace of this many steps, after the first three, to RUN/profile, for Perfetto or TensorBoard."""


def train(
    preset: Preset = None, /, *, given: Given, options: Flat[Options] = Options(), config: RunOptions = Config()
) -> None:
    """Train a run, or resume it: the same command continues where the run stopped.

    PRESET is one of the presets below or a YAML file. Options override its values; without PRESET, they override the
    defaults listed here. sagan train PRESET --help lists the values of that preset.

    examples:
      sagan train quickstart                        # a first run, in minutes
      sagan train quickstart --training.steps 3000  # resume it, for longer
      sagan train cifar10 --training.batch_size 32 --run_dir runs/small-batch
      sagan train cifar10 --print_config > mine.yaml     # a file to edit
      sagan train mine.yaml --run_dir runs/mine
      sagan train own-images --data.path my-images       # your own images
      torchrun --nproc_per_node 2 -m sagan train cifar10 # on two GPUs
    """
    said = {setting.key for setting in given.of(Config)}
    if preset is None and said <= {*MACHINE_OPTIONS} and not options.print_config:
        usage = "usage: sagan train [PRESET] [--option value ...]"
        raise ConfigError(f"PRESET is missing\n{usage}\n\npresets:\n{preset_table()}")
    config = load_settings(preset, given.of(Config))
    if options.print_config:
        return print(to_yaml(config), end="")
    if options.dry_run:
        return print(*map(printable, plan_of(config)), sep="\n")
    from sagan.api import train as train_run
    from sagan.training.profiling import Profile

    train_run(config, callbacks=[Profile(options.profile)] if options.profile else ())


def plan_of(config: Config) -> list[str]:
    """Return what a run would do, as text. Raise ConfigError or UserError as the run itself would at its start."""
    from sagan.config.dotted import is_dotted
    from sagan.data import find_data, with_num_classes
    from sagan.evaluation.reference import require_scorable
    from sagan.models.build import build_discriminator, build_generator, build_skeleton
    from sagan.runs.checkpoints import newest_whole
    from sagan.runs.hub_download import is_address
    from sagan.runs.saved_networks import load_weights
    from sagan.runtime.device import activation_dtype, choose_device
    from sagan.training.least_memory import require_memory_for
    from sagan.training.resume import check_start, finished, require_same_data

    saved, _ = newest_whole(Path(config.run_dir or ""))
    config = check_start(config, saved, data_given=False, download=False)
    directory, device, training = Path(config.run_dir or ""), choose_device(config.device), config.training
    dtype = str(activation_dtype(training.precision, device)).removeprefix("torch.")
    step = saved["step"] if saved else 0
    data = f"{config.data.source}, downloaded on first use"
    if is_dotted(config.data.source):
        data = f"{config.data.source}, opened when the run starts"
    elif config.data.source == "huggingface" and Path(config.data.path or "").exists():
        data = f"{config.data.source} {config.data.path}, opened when the run starts"
    if config.data.source in (*DRAWN, *LOCAL):
        found = find_data(config.data)
        data = f"{counted(len(found), 'image')}, {found.source}"
        config = with_num_classes(config, found)
        require_scorable(config.evaluation, len(found))
        if saved and config.data.on_error == "raise":  # else unreadable images are left out only when they are read
            require_same_data(saved, found, directory)
    start = f"resuming from step {step}" if step else "a new run"
    if saved and finished(config, saved):
        start = f"finished at step {step}, so nothing is left to train"
    if training.init_from and not step:
        start += f" from the weights of {training.init_from}"
        start += "" if is_address(training.init_from) else f", step {load_weights(training.init_from)[0]}"
    lines = [
        f"run directory: {directory}, {start}",
        f"steps: {training.steps}, {counted(training.batch_size, 'image')} each, on {device} in {dtype}",
        f"data: {data}",
    ]
    if config.data.num_classes is not None:
        require_memory_for(config, device)
        networks = build_skeleton(build_generator, config), build_skeleton(build_discriminator, config)
        counts = [sum(p.numel() for p in network.parameters()) for network in networks]
        lines.append(f"generator {counts[0]:,} parameters, discriminator {counts[1]:,}")
    return lines


def preset_table() -> str:
    """Return the names of the presets with their descriptions."""
    width = max(map(len, presets()), default=0)
    lines = (f"  {name:{width}}  {describe_preset(name)}" for name in presets())
    return "\n".join(textwrap.fill(line, 79, subsequent_indent=" " * (width + 4)) for line in lines)


train.__doc__ = f"{inspect.getdoc(train)}\n\npresets:\n{preset_table()}"
