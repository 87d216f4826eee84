"""Hypothesis strategies for options, derived from their types: an option is fuzzed by being declared."""

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, Predicate
from hypothesis import strategies as st

from sagan.config import Config
from sagan.config.reading import option_types

TEXT = st.text(max_size=20)
NUMBERS = st.integers() | st.floats()
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
LARGEST = 64  # of a number that fits, so that what is built from it is small


def fitting(kind: Any) -> st.SearchStrategy:
    """Return values of a type, within its range."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        conditions = [b.func for b in kind.__metadata__ if isinstance(b, Predicate)]
        return within(arguments[0], kind.__metadata__).filter(lambda value: all(holds(value) for holds in conditions))
    if origin in (Union, UnionType):
        return st.one_of(*map(fitting, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(fitting(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(TEXT, ANYTHING, max_size=2)
    if is_dataclass(kind):
        return st.fixed_dictionaries({}, optional={f.name: fitting(f.type) for f in fields(kind)})
    plain = {int: st.integers(0, LARGEST), float: st.floats(0, 1), bool: st.booleans(), str: TEXT, NoneType: st.none()}
    return plain[kind]


def within(kind: Any, bounds: tuple) -> st.SearchStrategy:
    """Return values of a type that hold its bounds on numbers."""
    low = next((b.ge for b in bounds if isinstance(b, Ge)), None)
    above = next((b.gt for b in bounds if isinstance(b, Gt)), None)
    high = next((b.le for b in bounds if isinstance(b, Le)), None)
    below = next((b.lt for b in bounds if isinstance(b, Lt)), None)
    if kind is int:
        lowest = above + 1 if above is not None else low or 0
        return st.integers(lowest, min(high or LARGEST, LARGEST))
    if kind is float:
        least, most = (above if above is not None else low or 0), (below if below is not None else high or 1.0)
        return st.floats(least, most, exclude_min=above is not None, exclude_max=below is not None)
    return fitting(kind)


def settings() -> st.SearchStrategy[dict[str, Any]]:
    """Return values for some options of a run by dotted name: most fit, a few are anything at all."""
    types = option_types(Config)
    good = {key: fitting(kind) for key, kind in types.items()}
    bad = st.dictionaries(st.sampled_from(sorted(types)), ANYTHING, max_size=2)
    return st.tuples(st.fixed_dictionaries({}, optional=good), bad).map(lambda both: {**both[0], **both[1]})


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of options by dotted name as nested sections."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        inside = result
        for name in sections:
            inside = inside.setdefault(name, {})
        inside[last] = value
    return result
