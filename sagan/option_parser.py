"""The options of a command: typed by dataclasses, explained on a help page, and refused in one line.

jsonargparse turns text into values and docstrings into help. Added here: which file a wrong value stands in, what was
expected, in words, and which option a misspelt one may have meant.
"""

import difflib
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

import yaml

from sagan.config import ConfigError


class Setting(NamedTuple):
    """A value that somebody gave to an option."""

    key: str
    value: Any  # text from a command line, any plain value from a YAML file
    where: str = ""  # stands before the key in an error: "--" or "FILE: "


def token_settings(tokens: list[str]) -> list[Setting]:
    """The settings of a command line, as `--key value` or `--key=value`. Raises ConfigError for anything else."""
    settings, rest = [], iter(tokens)
    for token in rest:
        if not token.startswith("--"):
            raise ConfigError(f"{token}: expected an option, --key value (a name or a path stands before all options)")
        key, equals, value = token[2:].partition("=")
        if not equals:
            value = next(rest, None)
            if value is None or value.startswith("--"):
                raise ConfigError(f"--{key}: expected a value after it")
        settings.append(Setting(key, value, "--"))
    return settings


class OptionParser:
    """Options named after the fields of dataclasses, nested ones with dots; `about` opens the help page."""

    def __init__(self, about: str = ""):
        from jsonargparse import ArgumentParser, set_parsing_settings  # here: they take a fifth of a second

        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        usage, _, description = about.partition("\n\n")
        self._parser = ArgumentParser(
            usage=usage, description=description, exit_on_error=False, formatter_class=_help_formatter()
        )
        self.types: dict[str, Any] = {}

    def add(self, cls: type, prefix: str = "", skip: frozenset[str] = frozenset()) -> "OptionParser":
        """Adds the fields of a dataclass, all but those in `skip`."""
        self._parser.add_class_arguments(cls, prefix or None, skip=set(skip))
        self.types |= {k: t for k, t in option_types(cls, f"{prefix}." if prefix else "").items() if k not in skip}
        return self

    def print_help(self) -> None:
        """Prints the help page."""
        for action in self._parser._actions:
            action.option_strings = [name for name in action.option_strings if not name.endswith("+")]
            if self._is_section(action.dest):
                action.help = SUPPRESS  # `--data FILE`: no option of ours
            elif get_origin(self.types.get(action.dest)) is not dict:
                action.metavar = _choices(self.types.get(action.dest))
        self._parser.print_help()

    def parse(self, settings: Iterable[Setting]) -> dict[str, Any]:
        """The values of all options, nested; a later setting overrides an earlier one. Raises ConfigError."""
        from jsonargparse import ArgumentError

        settings, values = list(settings), {}
        for key, value, where in settings:
            kind = self._type(key, value, where)
            if value is None and not _takes(kind, NoneType):
                raise ConfigError(f"{where}{key} null: expected {in_words(kind)}")
            if key in self.types:
                values[key] = _as_list(value, kind)
            else:  # one entry of a dictionary
                parent = self._dictionary(key)
                value = yaml.safe_load(value) if isinstance(value, str) else value
                values[parent] = {**values.get(parent, {}), key.removeprefix(f"{parent}."): value}
        try:
            return self._parser.parse_object(values).as_dict()
        except ArgumentError as error:
            self._blame(settings)
            raise ConfigError(" ".join(str(error).split())) from None

    def file_settings(self, file: Path) -> list[Setting]:
        """The settings of a YAML file. Raises ConfigError where it is no such file, or has unknown options."""
        try:
            content = yaml.safe_load(file.read_text())
        except yaml.MarkedYAMLError as error:
            line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise ConfigError(f"{file}: cannot be read as YAML: {error.problem}{line}") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from None
        if content is not None and not isinstance(content, dict):
            raise ConfigError(f"{file}: expected options as `section: {{key: value}}`, given {content!r}")
        return list(self._flat(content or {}, "", f"{file}: "))

    def _flat(self, content: dict, prefix: str, where: str) -> Iterable[Setting]:
        for name, value in content.items():
            key = f"{prefix}{name}"
            if self._is_section(key) and (value is None or isinstance(value, dict)):
                yield from self._flat(value or {}, f"{key}.", where)
            else:
                self._type(key, value, where)
                yield Setting(key, value, where)

    def _is_section(self, key: str) -> bool:
        return any(known.startswith(f"{key}.") for known in self.types)

    def _dictionary(self, key: str) -> str | None:
        """The option that holds a dictionary of which `key` is an entry."""
        return next((k for k, t in self.types.items() if get_origin(t) is dict and key.startswith(f"{k}.")), None)

    def _type(self, key: str, value: Any, where: str) -> Any:
        """The type of an option that was given a value. Raises ConfigError where there is none of that name."""
        if key in self.types:
            return self.types[key]
        if self._dictionary(key):
            return Any
        if self._is_section(key):
            example = next(known for known in self.types if known.startswith(f"{key}."))
            raise ConfigError(f"{where}{key} {value}: expected one of its options, such as {example}")
        raise ConfigError(f"{where}{key}: there is no such option; {self._near(key)}")

    def _near(self, key: str) -> str:
        word = key.replace("-", "_")
        same = [k for k in self.types if k.rpartition(".")[2] == word.rpartition(".")[2]]
        near = difflib.get_close_matches(word, self.types, n=1) or same[:3]
        return f"did you mean {' or '.join(near)}?" if near else "--help lists them"

    def _blame(self, settings: list[Setting]) -> None:
        """Raises ConfigError for the first setting that is not accepted by itself."""
        from jsonargparse import ArgumentError

        for key, value, where in settings:
            kind = self._type(key, value, where)
            try:
                if key in self.types:
                    self._parser.parse_object({key: _as_list(value, kind)})
            except ArgumentError:
                raise ConfigError(f"{where}{key} {value}: expected {in_words(kind)}") from None


def option_types(cls: type, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> type of every option of a dataclass and those inside it, in order."""
    types = {}
    for f in fields(cls):
        key = f"{prefix}{f.name}"
        types |= option_types(f.type, f"{key}.") if is_dataclass(f.type) else {key: f.type}
    return types


def in_words(kind: Any) -> str:
    """A type as an error says it: "an integer or null"."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is list:
        return f"a list, [...], each item {in_words(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "a mapping, {key: value, ...}"
    if members := get_args(kind):
        return " or ".join(map(in_words, members))
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
    return words.get(kind, str(kind))


def _members(kind: Any) -> tuple:
    """The alternatives of a union, or the type itself."""
    return (kind,) if get_origin(kind) in (Literal, list, dict) else get_args(kind) or (kind,)


def _takes(kind: Any, member: type) -> bool:
    return kind is Any or member in _members(kind)


def _as_list(value: Any, kind: Any) -> Any:
    """A single value for an option that takes lists only, such as `16` or `8,16`, as a list."""
    if not any(get_origin(m) is list for m in _members(kind)) or _takes(kind, int):
        return value
    if isinstance(value, str):
        return value if value.startswith("[") or value == "null" else f"[{value}]"
    return value if value is None or isinstance(value, list) else [value]


def _choices(kind: Any) -> str | None:
    """What stands after the name on the help page, where it is a choice: {z,classes,null}."""
    names = []
    for member in _members(kind):
        if get_origin(member) is not Literal and member not in (NoneType, bool):
            return None
        known = {NoneType: ["null"], bool: ["true", "false"]}
        names += known[member] if member in known else map(str, get_args(member))
    return f"{{{','.join(names)}}}"


def _help_formatter() -> type:
    from jsonargparse import DefaultHelpFormatter

    class HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
        """Keeps the lines of the description, and says defaults but not types, which the name and text make clear."""

        def _get_type_str(self, action) -> None:
            return None

    return HelpFormatter
