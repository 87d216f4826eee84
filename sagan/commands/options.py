"""What verbs share: the types of arguments that several take, and the settings that were given."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from annotated_types import MinLen, doc
from cyclopts import Group, Parameter

from sagan.config import Config, ConfigError, DataConfig, Setting
from sagan.config.reading import is_option_of, option_types

if TYPE_CHECKING:
    from sagan.models.generator import Generator

OPTIONS_OF_TRAIN = "options of sagan train"

Flat = Parameter(name="*")
"""Marks a dataclass whose fields are options of their own names."""
RunConfig = Annotated[Config, Flat, Parameter(group=Group(OPTIONS_OF_TRAIN, sort_key=2))]
DataOptions = Annotated[
    DataConfig, Parameter(group=Group("data (default: as in the run)", sort_key=3), show_default=False)
]

Preset = Annotated[str | None, Parameter(help="a preset or a YAML file")]
Run = Annotated[str, Parameter(help="a run directory, a checkpoint or exported weights")]
Checkpoint = Annotated[str | None, Parameter(help="best, or a checkpoint file; null: the newest of the run.")]
Device = Annotated[str, Parameter(help="cpu, cuda, cuda:1, ...; auto: a GPU if there is one.")]
Ema = Annotated[bool, Parameter(help="Use the moving average (EMA) of G, if there is one, instead of G itself.")]
Classes = Annotated[list[int | str], MinLen(1), doc("at least one class")]


@dataclass
class Typed:
    """What was typed after a verb."""

    words: list[str]
    settings: list[Setting] = field(default_factory=list)
    """The options among the words."""

    def of(self, cls: type, prefix: str = "") -> list[Setting]:
        """Return the settings of a dataclass's options, whose names begin with `prefix` on the command line."""
        types = option_types(cls)
        own = (s._replace(key=s.key.removeprefix(prefix), where=f"--{prefix}") for s in self.starting(prefix))
        return [s for s in own if is_option_of(types, s.key)]

    def starting(self, prefix: str) -> list[Setting]:
        """Return the settings whose names begin so."""
        return [s for s in self.settings if s.key.startswith(prefix)]


Given = Annotated[Typed, Parameter(parse=False)]
"""Passed to a verb that asks which options were given."""


def chosen_classes(asked: list[int | str] | None, generator: "Generator") -> list[int]:
    """Return the numbers of the classes of `--classes`: all for None, and none for an unconditional generator.

    Raise ConfigError for a class that does not exist.
    """
    from sagan.models.inputs import class_numbers
    from sagan.models.origin import origin_of

    try:
        return class_numbers(asked, generator.num_classes, origin_of(generator).class_names)
    except ValueError as error:
        raise ConfigError(f"--classes {asked}: {str(error).partition(': ')[2]}") from None
