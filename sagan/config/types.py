"""What an option accepts: types with ranges, their descriptions, and the conversion of text to values."""

import math
import os
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import DocInfo, Ge, Gt, Le, Lt, MinLen, Predicate, doc

from sagan.config.errors import ConfigError
from sagan.config.plain_yaml import load_yaml

Positive = Annotated[int, Gt(0)]
NonNegative = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Gt(0), Le(1)]
Decay = Annotated[float, Ge(0), Lt(1)]
LEAST_TRUNCATION = 0.01  # a smaller one would redraw nearly every entry of z thousands of times
TRUNCATION_RANGE = f"0 (never), or at least {LEAST_TRUNCATION}"
Truncation = Annotated[float, Predicate(lambda v: v == 0 or v >= LEAST_TRUNCATION), doc(TRUNCATION_RANGE)]
MOST_PROCESSES = 512  # more never helps, and a mistyped number could take the machine down
Processes = Annotated[int, Ge(0), Le(MOST_PROCESSES)]
PositiveProcesses = Annotated[int, Gt(0), Le(MOST_PROCESSES)]


def is_path(value: str) -> bool:
    """Return whether file systems accept a path and records can hold its name."""
    try:
        path = value.encode()
    except UnicodeEncodeError:  # bytes of a file name that are not UTF-8
        return False
    return 0 < len(path) < 4096 and b"\0" not in path and max(map(len, path.split(b"/"))) < 256


EXPANDED = object()  # `~` becomes the user's home. bash does that for `--out ~/x`, but not for `--out=~/x`.
FilePath = Annotated[str, EXPANDED, Predicate(is_path)]  # no `doc`: help pages need not repeat it for every path
A_PATH = "a path in UTF-8, shorter than 4,096 bytes, each name in it shorter than 256"

HOLDS = {
    Gt: lambda value, bound: value > bound.gt,
    Ge: lambda value, bound: value >= bound.ge,
    Lt: lambda value, bound: value < bound.lt,
    Le: lambda value, bound: value <= bound.le,
    MinLen: lambda value, bound: len(value) >= bound.min_length,
    Predicate: lambda value, bound: bound.func(value),
}
LONGEST = 120  # characters of a value in an error
WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", NoneType: "null", Any: "YAML"}


class OutOfRange(ConfigError):
    """A value has the right type but is outside its range."""


def convert(kind: Any, value: Any, option: str) -> Any:
    """Return `value` as a value of type `kind`. `value` is text from a command line or a plain value from YAML.

    Raise a ConfigError that names `option`, the value, and what was expected.
    """
    try:
        return _convert(kind, value)
    except OutOfRange as error:
        raise ConfigError(f"{option} {error}") from None
    except NOT_OF_TYPE:
        raise ConfigError(f"{option} {shown(value)}: expected {in_words(kind)}") from None


def in_words(kind: Any) -> str:
    """Return what a type accepts, as an error says it: "an integer or null"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return in_words(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is list:
        return f"a list, [...], each item {in_words(arguments[0])}"
    if origin is dict or kind is dict:
        return "a mapping, {key: value, ...}"
    return " or ".join(map(in_words, arguments)) if arguments else WORDS.get(kind, str(kind))


def range_in_words(kind: Any) -> str:
    """Return the range of a type, such as "a number above 0" or "0 <= value < 1"; "" if it has none."""
    if get_origin(kind) in (Union, UnionType):
        return next(filter(None, map(range_in_words, get_args(kind))), "")
    bounds = {type(bound): bound for bound in getattr(kind, "__metadata__", ())}
    if DocInfo in bounds:
        return bounds[DocInfo].documentation
    low = f"{bounds[Gt].gt} < " if Gt in bounds else f"{bounds[Ge].ge} <= " if Ge in bounds else ""
    high = f" < {bounds[Lt].lt}" if Lt in bounds else f" <= {bounds[Le].le}" if Le in bounds else ""
    if low and not high:
        return f"a number above {bounds[Gt].gt}" if Gt in bounds else f"{bounds[Ge].ge} or more"
    return f"{low}value{high}" if low or high else ""


def as_text(value: Any) -> str:
    """Return a value as a person writes it: null, true, [64, 32]."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{', '.join(map(as_text, value))}]" if isinstance(value, list) else str(value)


def shown(value: Any) -> str:
    """Return a value as an error shows it: text as `as_text` writes it, shortened if it is long."""
    text = " ".join(as_text(value).splitlines()) or '""'
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 20]}... ({len(text):,} characters)"


def _convert(kind: Any, value: Any) -> Any:
    """Return `value` as a value of type `kind`. Raise OutOfRange or one of NOT_OF_TYPE."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        value = _convert(arguments[0], value)
        return _in_range(kind, os.path.expanduser(value) if EXPANDED in kind.__metadata__ else value)
    if origin in (Union, UnionType):
        return _first_that_fits(arguments, value)
    if origin is Literal:
        return {str(known): known for known in arguments if type(value) in (str, type(known))}[str(value)]
    if origin is list:
        return [_convert(arguments[0], item) for item in _items(value)]
    return SCALARS[origin or kind](value)


def _first_that_fits(kinds: tuple, value: Any) -> Any:
    """Return `value` as the first of the types that accepts it; null comes before text."""
    reason: Exception = ValueError()
    for kind in sorted(kinds, key=lambda k: k is not NoneType):
        try:
            return _convert(kind, value)
        except NOT_OF_TYPE as error:
            reason = reason if isinstance(reason, OutOfRange) else error
    raise reason


def _in_range(kind: Any, value: Any) -> Any:
    if all(HOLDS[type(bound)](value, bound) for bound in kind.__metadata__ if type(bound) in HOLDS):
        return value
    raise OutOfRange(f"{shown(value)}: expected {range_in_words(kind) or A_PATH}")


def _items(value: Any) -> list:
    """Return the items of a list, of text such as `[8, 16]` or `8,16`, or of a single value."""
    if isinstance(value, str) and not value.startswith("["):
        return [item.strip() for item in value.split(",")]
    items = _plain(value)
    return items if isinstance(items, list) else [items]


def _number(value: Any, make: type, *accepted: type) -> Any:
    if type(value) not in (str, *accepted) or not math.isfinite(float(value)):
        raise ValueError
    number = make(value)
    if isinstance(number, int) and abs(number) >= 2**63:
        raise OutOfRange(f"{shown(value)}: expected an integer of at most 64 bits")
    return number


def _plain(value: Any, kind: type = object) -> Any:
    """Return text as YAML reads it, and anything else unchanged. Raise ValueError unless the result is a `kind`."""
    plain = load_yaml(value) if isinstance(value, str) else value
    if not isinstance(plain, kind):
        raise ValueError
    return plain


SCALARS = {
    NoneType: lambda value: {None: None, "null": None}[value],
    bool: lambda value: {"true": True, "false": False}[str(value).lower()],
    int: lambda value: _number(value, int, int),
    float: lambda value: _number(value, float, int, float),
    str: lambda value: {str: value, int: str(value), float: str(value)}[type(value)],
    dict: lambda value: _plain(value, dict),
    Any: _plain,
}
NOT_OF_TYPE = (KeyError, OverflowError, TypeError, ValueError, yaml.YAMLError)
