"""Presets, and the only function that turns a preset or file with overrides into a checked configuration."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sagan.config import DRAWN, STORED, Config, ConfigError, Setting, file_settings, override_settings, read
from sagan.config.types import shown
from sagan.models.sizes import split_size

PACKAGE = Path(__file__).parent
# An installed wheel has the presets inside the package; a checkout has them beside it.
PRESET_DIR = next((d for d in (PACKAGE / "experiments", PACKAGE.parent / "experiments") if d.is_dir()), PACKAGE)


def presets() -> list[str]:
    """Return the names of the shipped presets."""
    return sorted(path.stem for path in PRESET_DIR.glob("*.yaml"))


def describe_preset(name: str) -> str:
    """Return the description of a preset, which is the comment in the first line of its file."""
    with open(config_file(name)) as file:
        return file.readline().lstrip("# ").rstrip()


def config_file(name: str) -> Path:
    """Return the file of a preset, given its name, or of a path. Raise ConfigError if there is neither."""
    path = Path(name).expanduser()
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return path
    preset = PRESET_DIR / f"{name}.yaml"
    if preset.is_file():
        return preset
    near = difflib.get_close_matches(name, presets(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"the presets are {', '.join(presets())}"
    raise ConfigError(f"{name}: neither a YAML file nor a preset; {hint}")


def load_config(name: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of a preset or YAML file, with overrides such as `model.generator.channels=32`.

    Without a name it starts from the defaults. Raise ConfigError, naming the option, the value and what was expected,
    for any error that can be found before the data are opened: unknown options, wrong types, values out of range,
    impossible sizes, options that contradict each other.
    """
    return load_settings(None if name is None else str(name), override_settings(overrides))


def load_settings(name: str | None, settings: Sequence[Setting]) -> Config:
    """Return the configuration of a preset or YAML file, changed by settings. Raise errors as `load_config` does."""
    file = config_file(name) if name is not None else None
    settings = [*(file_settings(file) if file else []), *settings]
    config = read(Config, settings)
    if config.run_dir is None:
        config = replace(config, run_dir=f"runs/{file.stem if file else 'default'}")
    if file and not any(s.key == "run_dir" and s.where != f"{file}: " for s in settings) and is_of_run(file):
        config = replace(config, run_dir=str(file.parent))  # the run may have been moved
    try:
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{at_fault(str(error), settings, file)}{error}") from None
    return config


def at_fault(text: str, settings: Sequence[Setting], file: Path | None) -> str:
    """Return where the option that an error begins with was set, unless an option that it names was set later."""
    named = [s for s in settings if re.search(rf"(?<![\w.]){re.escape(s.key)}[ .:]", f"{text} ")]
    if named and text.startswith(named[-1].key):
        return named[-1].where
    return f"{file}: " if file and all(s.where == f"{file}: " for s in settings) else ""


def is_of_run(file: Path) -> bool:
    """Return whether a file is the configuration in a run directory."""
    return file.name == "config.yaml" and (file.parent / "checkpoints").is_dir()


def check(config: Config) -> None:
    """Raise ConfigError if options contradict each other, or if the networks or their attention cannot be built."""
    data, training = config.data, config.training
    split_size(data.size)
    if training.batch_size % training.micro_batches:
        raise ConfigError(
            f"training.batch_size {training.batch_size} is not divisible by training.micro_batches "
            f"{training.micro_batches}"
        )
    if data.source in STORED and not data.path:
        needed = {"zip": "an archive", "huggingface": "a folder or the name of a data set"}.get(data.source, "a folder")
        raise ConfigError(f"data.path {data.path or 'null'}: data.source {data.source} needs {needed}")
    if data.source in DRAWN and data.path:
        raise ConfigError(f"data.path {shown(data.path)}: data.source {data.source} draws its images, so expected null")
    from sagan.models.places import check_attention  # last: torch is slow to import

    check_attention(config)
