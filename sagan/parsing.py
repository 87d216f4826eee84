"""From a preset or YAML file and dotted overrides to a checked `Config`, and back to text."""

import functools
import re
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sagan.checks import check
from sagan.config import Config, ConfigError
from sagan.option_parser import OptionParser, Setting

PACKAGE = Path(__file__).parent
# An installed wheel carries the presets inside the package; a checkout has them beside it.
PRESET_DIR = next((d for d in (PACKAGE / "experiments", PACKAGE.parent / "experiments") if d.is_dir()), PACKAGE)

# What a resumed run may change; everything else makes another run.
CHANGEABLE = (
    "run_dir",
    "device",
    "data.path",
    "data.memory_gb",
    "data.workers",
    "training.steps",
    "evaluation.",
    "logging.",
    "checkpoint.",
)


def presets() -> list[str]:
    """Names of the shipped presets."""
    return sorted(path.stem for path in PRESET_DIR.glob("*.yaml"))


def describe_preset(name: str) -> str:
    """The first line of a preset's file, a comment that says what it is."""
    with open(config_file(name)) as file:
        return file.readline().lstrip("# ").rstrip()


def config_file(name: str) -> Path:
    """The file of a preset name, or of a path. Raises ConfigError where there is neither."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    preset = PRESET_DIR / f"{name}.yaml"
    if preset.is_file():
        return preset
    raise ConfigError(f"{name}: neither a YAML file nor a preset; the presets are {', '.join(presets())}")


def load_config(name: str | None = None, overrides: list[str] | None = None) -> Config:
    """The configuration of a preset or YAML file, with overrides such as `model.generator.channels=32`.

    Raises ConfigError, naming the option, the value given and what was expected, for anything that text can show to be
    wrong: unknown keys, wrong types, sizes that do not exist, options that contradict each other.
    """
    settings = []
    for override in overrides or []:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"{override}: expected an override such as training.steps=1000")
        settings.append(Setting(key, value))
    return read_config(_config_parser(), name, settings)[0]


@functools.cache  # a tenth of a second to build
def _config_parser() -> OptionParser:
    return OptionParser().add(Config)


def read_config(parser: OptionParser, name: str | None, settings: list[Setting]) -> tuple[Config, dict[str, Any]]:
    """The checked configuration of a preset or file and the settings that override it; and the values of all options of
    the parser, which may have more than a configuration has. Raises ConfigError."""
    file = config_file(name) if name else None
    settings = [*(parser.file_settings(file) if file else []), *settings]
    values = parser.parse(settings)
    config = to_config(values)
    if config.run_dir is None:
        config = replace(config, run_dir=f"runs/{file.stem if file else 'default'}")
    try:
        return check(config), values
    except ConfigError as error:  # it begins with an option: its last setting won
        at_fault = (s.where for s in reversed(settings) if re.match(rf"{re.escape(s.key)}[ .:]", str(error)))
        raise ConfigError(f"{next(at_fault, '')}{error}") from None


def to_config(values: dict[str, Any], cls: type = Config) -> Any:
    """A (nested) dataclass from a (nested) dictionary, such as a checkpoint or `config.yaml` holds.

    Of another version's dictionary it takes what it knows; what that lacks gets its default.
    """
    known = {f.name: f.type for f in fields(cls)}
    return cls(**{
        name: to_config(value, known[name]) if is_dataclass(known[name]) and isinstance(value, dict) else value
        for name, value in values.items()
        if name in known
    })  # fmt: skip


def flatten(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) of every option, in order."""
    items = []
    for f in fields(config):
        value = getattr(config, f.name)
        key = f"{prefix}{f.name}"
        items += flatten(value, f"{key}.") if is_dataclass(value) else [(key, value)]
    return items


def to_yaml(config: Config) -> str:
    """The text of `config.yaml`: an option on each line."""
    return yaml.dump(asdict(config), Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Writes lists as [64, 32]."""


_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)
)


def refuse_changes(old: Config, new: Config, run_dir: Path) -> None:
    """Raises ConfigError, with both values, if `new` may not continue the run of `old`."""
    before = dict(flatten(old))
    # An image that cannot be read is removed in memory, and replaced where images are read as they are needed.
    fixed = ("data.memory_gb",) if new.data.on_error == "skip" else ()
    changed = [
        f"  {key}: {before[key]} in the run, {value} now"
        for key, value in flatten(new)
        if before[key] != value and (key in fixed or not key.startswith(CHANGEABLE))
    ]
    if changed:
        lines = "\n".join(changed)
        raise ConfigError(
            f"{run_dir} cannot be resumed with another configuration:\n{lines}\n"
            "Give the old values, or another --run_dir for a new run."
        )
