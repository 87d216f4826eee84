"""Shared by the verbs: types of arguments, and the options that were given."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TypeVar

from annotated_types import MinLen, doc
from cyclopts import Group, Parameter

from sagan.config import Config, ConfigError, DataConfig, Setting
from sagan.config.reading import is_option_of, option_types
from sagan.config.types import FilePath, as_text

if TYPE_CHECKING:
    from sagan.models.generator import Generator

T = TypeVar("T")
TRAIN_GROUP = Group("options of sagan train", sort_key=2)
DATA_GROUP = Group("data (default: as in the run)", sort_key=3)

Flat = Annotated[T, Parameter(name="*")]
"""A dataclass whose fields are options of their own names."""
TrainOptions = Annotated[Config, Parameter(name="*", group=TRAIN_GROUP)]
DataOptions = Annotated[DataConfig, Parameter(group=DATA_GROUP, show_default=False)]
Preset = Annotated[str | None, Parameter(help="a preset or a YAML file")]
Trained = Annotated[str, Parameter(help="a run directory or a checkpoint")]
Run = Annotated[str, Parameter(help="a run directory, a checkpoint, exported weights or hf://user/name")]
Checkpoint = Annotated[
    FilePath | None,
    Parameter(
        help="best (the lowest Fréchet distance in the run's own evaluations), or a checkpoint file; null: the newest "
        "of the run."
    ),
]
Device = Annotated[str, Parameter(help="cpu, cuda, cuda:1, ...; auto: a GPU if there is one.")]
Ema = Annotated[bool, Parameter(help="Use the moving average (EMA) of G, if there is one, instead of G itself.")]
Licence = Annotated[
    str | None, Parameter(help="Licence of the weights for their card, such as mit or cc-by-4.0; null: not stated.")
]
TrustModule = Annotated[
    list[str],
    Parameter(
        help="Python modules that may be imported and run, with your permissions, if the file names an attention kind "
        "or data source in them."
    ),
]
Classes = Annotated[list[str], MinLen(1), doc("at least one class")]  # a number may be the name of another class


@dataclass
class Typed:
    """The options typed after a verb."""

    settings: list[Setting] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    """Options of the verb itself. One may have the name of a section of options, as `sagan bench --data` does."""

    def of(self, cls: type, prefix: str = "") -> list[Setting]:
        """Return the settings of a dataclass's options, whose names begin with `prefix` on the command line."""
        types = option_types(cls)
        own = (s._replace(key=s.key.removeprefix(prefix), where=f"--{prefix}") for s in self.starting(prefix))
        return [s for s in own if s.key in types or (s.key not in self.own and is_option_of(types, s.key))]

    def starting(self, prefix: str) -> list[Setting]:
        """Return the settings whose names begin with `prefix`."""
        return [s for s in self.settings if s.key.startswith(prefix)]


Given = Annotated[Typed, Parameter(parse=False)]
"""Type of the parameter of a verb that needs to know which options were given."""


def chosen_classes(asked: list[str] | None, generator: "Generator") -> list[int]:
    """Return the numbers of the classes of `--classes`; None means all. Raise ConfigError for an unknown one."""
    from sagan.models.input_checks import class_numbers
    from sagan.models.origin import origin_of

    try:
        return class_numbers(asked, generator.num_classes, origin_of(generator).class_names)
    except ValueError as error:
        raise ConfigError(f"--classes {as_text(asked)}: {str(error).partition(': ')[2]}") from None
