"""Reading of a configuration from a YAML file, a mapping, or words such as `training.steps=1000`.

All of them become a list of settings, in which later ones override earlier ones. Each value is converted to the type of
its option.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_origin, get_type_hints

from sagan.config.errors import ConfigError
from sagan.config.plain_yaml import read_yaml
from sagan.config.schema import Config
from sagan.config.types import convert, shown

T = TypeVar("T")


class Setting(NamedTuple):
    """A value given to an option."""

    key: str
    """Dotted name of the option."""
    value: Any
    """Text from a command line, or a plain value from YAML."""
    where: str = ""
    """What precedes the key in an error: "--", or "FILE: "."""


def read(cls: type[T], settings: Iterable[Setting]) -> T:
    """Return an instance of a (nested) dataclass, with defaults for options that are not set.

    A single entry of a mapping may be set, such as `attention.options.form`. Raise ConfigError if an option does not
    exist or a value does not fit it.
    """
    types, last = option_types(cls), {}
    for setting in settings:
        option = option_of(setting, types)
        last[option] = setting if option == setting.key else _entry(setting, option, last.get(option))
    return _assemble(cls, {key: convert(types[key], s.value, f"{s.where}{key}") for key, s in last.items()})


def to_config(values: Any) -> Config:
    """Return the configuration in a nested mapping, such as a checkpoint, an export or `config.yaml` contains.

    Keys of other versions are ignored, and missing ones get their defaults. If a value does not fit, raise a
    ConfigError that begins with the option.
    """
    types = option_types(Config)
    return read(Config, [s for s in flat_settings(values, types, "") if is_option_of(types, s.key)])


def updated(old: T, settings: Iterable[Setting]) -> T:
    """Return a (nested) dataclass with settings that override the values of `old`. Raise errors as `read` does."""
    return read(type(old), [*(Setting(key, value) for key, value in flatten(old)), *settings])


def file_settings(file: Path) -> list[Setting]:
    """Return the settings of a YAML file. Raise ConfigError if it cannot be read, or sets an unknown option."""
    content, types = read_yaml(file, "YAML"), option_types(Config)
    settings = flat_settings({} if content is None else content, types, f"{file}: ")
    settings = [s for s in settings if s.value is not None or not _is_section(s.key, types)]  # an empty section
    seen: set[str] = set()
    for setting in settings:
        option_of(setting, types)
        if setting.key in seen:
            raise ConfigError(f"{file}: {setting.key}: set twice")
        seen.add(setting.key)
    return settings


def override_settings(overrides: Iterable[str]) -> list[Setting]:
    """Return the settings of words such as `training.steps=1000`. Raise ConfigError for any other word."""
    settings = []
    for override in [overrides] if isinstance(overrides, str) else overrides:
        key, equals, value = override.partition("=") if isinstance(override, str) else ("", "", "")
        if not equals:
            raise ConfigError(f"{shown(override)}: expected an override such as training.steps=1000")
        settings.append(Setting(key, value))
    return settings


def flat_settings(content: Any, types: Mapping[str, Any], where: str, prefix: str = "") -> Iterator[Setting]:
    """Yield a setting for each option of a nested mapping. Raise ConfigError if it is not a mapping."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}expected options as `section: {{key: value}}`, given {shown(content)}")
    for name, value in content.items():
        key = f"{prefix}{name}"
        if _is_section(key, types) and isinstance(value, Mapping):
            yield from flat_settings(value, types, where, f"{key}.")
        else:
            yield Setting(key, value, where)


def flatten(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return (dotted name, value) of every option of a (nested) dataclass, in order."""
    items = []
    for f in fields(config):
        value, key = getattr(config, f.name), f"{prefix}{f.name}"
        items += flatten(value, f"{key}.") if is_dataclass(value) else [(key, value)]
    return items


def option_types(cls: Any, prefix: str = "") -> dict[str, Any]:
    """Return the type of every option of a dataclass and of nested ones, by dotted name, in order."""
    types, hints = {}, {f.name: f.type for f in fields(cls)}
    if any(isinstance(hint, str) for hint in hints.values()):  # as `from __future__ import annotations` makes them
        hints = get_type_hints(cls, include_extras=True)
    for f in fields(cls):
        key, kind = f"{prefix}{f.name}", hints[f.name]
        types |= option_types(kind, f"{key}.") if is_dataclass(kind) else {key: kind}
    return types


def option_of(setting: Setting, types: Mapping[str, Any]) -> str:
    """Return the option that a setting is about: its key, or the mapping that its key is an entry of.

    Raise ConfigError, suggesting similar options, if there is none.
    """
    key, value, where = setting
    if key in types:
        return key
    if option := _mapping_of(key, types):
        return option
    if _is_section(key, types):
        example = next(known for known in types if known.startswith(f"{key}."))
        raise ConfigError(f"{where}{key} {shown(value)}: expected one of its options, such as {example}")
    raise ConfigError(f"{where}{shown(key)}: {no_such_option(key, types)}")


def is_option_of(types: Mapping[str, Any], key: str) -> bool:
    """Return whether a key is an option, a section of options, or an entry of a mapping."""
    return key in types or _is_section(key, types) or _mapping_of(key, types) is not None


def no_such_option(key: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown option, with suggestions."""
    known, word = list(known), key.replace("-", "_")
    same = [k for k in known if k.rpartition(".")[2] == word.rpartition(".")[2]]
    near = " or ".join(difflib.get_close_matches(word, known, n=1) or same[:3])
    return f"there is no such option; {f'did you mean {near}?' if near else '--help lists them'}"


def _entry(setting: Setting, option: str, before: Setting | None) -> Setting:
    """Return the setting of a mapping with one entry replaced."""
    key, value, where = setting
    old = convert(dict, before.value, f"{before.where}{option}") if before else {}
    return Setting(option, {**old, key.removeprefix(f"{option}."): convert(Any, value, f"{where}{key}")}, where)


def _is_section(key: str, types: Mapping[str, Any]) -> bool:
    return any(known.startswith(f"{key}.") for known in types)


def _mapping_of(key: str, types: Mapping[str, Any]) -> str | None:
    return next((k for k, t in types.items() if get_origin(t) is dict and key.startswith(f"{k}.")), None)


def _assemble(cls: Any, values: dict[str, Any], prefix: str = "") -> Any:
    """Return an instance of a dataclass from the values of its options by dotted name."""
    own = {f.name: values[f"{prefix}{f.name}"] for f in fields(cls) if f"{prefix}{f.name}" in values}
    parts = {f.name: _assemble(f.type, values, f"{prefix}{f.name}.") for f in fields(cls) if is_dataclass(f.type)}
    return cls(**own, **parts)
