"""`sagan bench`: measure the speed of a training step, or the cost of attention systems."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, MinLen, Predicate, doc
from cyclopts import Group, Parameter

from sagan.benchmark import Form
from sagan.commands.options import Flat, Given, Preset, TrainOptions
from sagan.config import Config, ConfigError
from sagan.config.types import FilePath, Positive, PositiveProcesses, as_text
from sagan.presets import load_settings
from sagan.runtime.files import check_writable

SOME_KINDS = "null or kinds other than none"


@dataclass(frozen=True)
class Options:
    """What to measure, and where to write the result."""

    attention: bool = False
    """Measure attention systems instead, each by itself with its default options. --device applies to them, too."""
    data: bool = False
    """Also measure how fast the data arrive, and say whether they hold up the step."""
    forms: Annotated[list[Form], MinLen(1), doc("at least one form")] | None = None
    """Forms of the step to measure in addition to auto; null: all that work here."""
    json: FilePath | None = None
    """File for the measurements, in addition to the terminal."""


@dataclass(frozen=True)
class Costs:
    """Which attention systems to measure, and on what."""

    batch: Annotated[int, Ge(2), doc("2 or more, for batch norm")] = 8
    """Number of images."""
    channels: Positive = 256
    """Channels of the map."""
    sizes: Annotated[list[Positive], MinLen(1), doc("at least one number above 0")] = field(
        default_factory=lambda: [16, 32]
    )
    """Sides of the square maps, in pixels."""
    kinds: Annotated[list[str], MinLen(1), Predicate(lambda kinds: "none" not in kinds), doc(SOME_KINDS)] | None = None
    """Kinds, or paths of your own classes; null: all."""
    precision: Literal["float32", "bf16"] = "float32"
    """Activation dtype."""
    threads: PositiveProcesses = 1
    """CPU threads; synchronization time is included."""
    repeats: Positive = 7
    """Number of passes, of which the best time is shown."""


CostOptions = Annotated[Costs, Parameter(name="*", group=Group("options of --attention", sort_key=1))]


def bench(
    preset: Preset = None,
    /,
    *,
    given: Given,
    options: Flat[Options] = Options(),
    costs: CostOptions = Costs(),
    config: TrainOptions = Config(),
) -> None:
    """Measure a training step on random images, compared with a plain implementation of the same model.

    A step is d_steps updates of D and one of G, in every mode of training.performance that works here. Compiling takes
    about a minute. The step is also shown as a fraction of the machine's best matrix product or convolution.
    --data measures how fast the images arrive, and compares that with the step that consumes them. --attention measures
    parameters, FLOPs, time and memory of attention systems, and prints a Markdown table.

    examples:
      sagan bench cifar10                            # on this machine
      sagan bench cifar10 --training.batch_size 32 --json bench.json
      sagan bench quickstart --data                  # are the data fast enough?
      sagan bench --attention --kinds [sagan,se] --sizes 16
    """
    for name in ("json", "data", "forms") if options.attention else ():
        if value := getattr(options, name):
            raise ConfigError(f"--{name} {as_text(value)}: does not apply to --attention, which prints a table")
    if options.forms and options.data:
        raise ConfigError(f"--forms {as_text(options.forms)}: does not apply to --data, which measures auto alone")
    if options.attention:
        return print(attention_report(preset, costs, given))
    for setting in given.of(Costs):
        raise ConfigError(f"--{setting.key}: requires --attention")
    config = load_settings(preset, given.of(Config))
    if options.json:
        check_writable(Path(options.json), "--json", folder=False)
    json = Path(options.json) if options.json else None
    if options.data:
        from sagan.benchmark import data

        data.bench(config, json)
    else:
        from sagan.benchmark import step

        step.bench(config, json, options.forms)


def attention_report(preset: str | None, costs: Costs, given: Given) -> str:
    """Return the table of attention systems. Raise ConfigError for options that do not apply to it."""
    if preset is not None:
        raise ConfigError(f"{preset}: --attention measures attention systems alone, and takes no preset")
    device = "cpu"
    for setting in given.of(Config):
        if setting.key != "device":
            raise ConfigError(f"--{setting.key}: --attention measures attention systems alone, and has no use for it")
        device = setting.value
    from sagan.benchmark.attention import measure

    wanted = asdict(costs)
    return measure(wanted.pop("kinds"), wanted.pop("sizes"), device=device, **wanted)
