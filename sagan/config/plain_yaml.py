"""YAML as people write it by hand: plain values, no key twice, and limits to the number of values and to integers."""

import re
from pathlib import Path
from typing import Any

import yaml

from sagan.config.errors import ConfigError, one_line

MOST = 100_000  # values, with each alias counted as a copy: a few lines of aliases can stand for billions
LONGEST = 200  # characters of an integer: it fits into a float, and Python prints it
DEEPEST = 50  # brackets inside brackets: PyYAML takes time with their square
DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
TOO_DEEP = "brackets inside brackets, too deep to read"
INT, STR = "tag:yaml.org,2002:int", "tag:yaml.org,2002:str"


class PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader with a limit to brackets inside brackets."""

    def fetch_flow_collection_start(self, TokenClass: type[yaml.Token]) -> None:
        """Read a bracket. Raise yaml.YAMLError if it stands inside too many others."""
        if self.flow_level == DEEPEST:
            raise yaml.YAMLError(TOO_DEEP)
        super().fetch_flow_collection_start(TokenClass)


def load_yaml(text: str) -> Any:
    """Return the plain values in a YAML text.

    Unlike YAML 1.1 asks for, 0123, 2024_01, 0x1f and 12:30 are text: as a name they stay what they are.

    Raise yaml.YAMLError if the text is not YAML, sets a key twice, or holds more than MOST values, an integer longer
    than LONGEST or more than DEEPEST brackets inside brackets.
    """
    try:
        loader = PlainLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST:
            raise yaml.YAMLError(f"more than {MOST:,} values")
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError(TOO_DEEP) from None
    except (ValueError, OverflowError) as error:  # a date such as 2026-02-30
        raise yaml.YAMLError(str(error)) from None
    except (AttributeError, LookupError):  # from PyYAML for `!!timestamp x`, `!!int ""` and `!!bool maybe`
        raise yaml.YAMLError("a value that does not fit its tag, such as !!int") from None


def read_yaml(file: Path, what: str) -> Any:
    """Return the plain values in a YAML file. Raise ConfigError, naming the file and `what` it should be."""
    try:
        return load_yaml(file.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: cannot be read as {what}: {problem(error)}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read as {what}: {error}") from None


def problem(error: yaml.YAMLError) -> str:
    """Return, as one line of text, what is wrong with a YAML text and where."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem:
        return f"{error.problem}{f' in line {error.problem_mark.line + 1}' if error.problem_mark else ''}"
    return one_line(error)


def _size(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return the number of values in a node, and make text of unusual integers. Raise YAMLError as `load_yaml` does."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag == INT and len(node.value) > LONGEST:
            problem = f"an integer of {len(node.value):,} characters"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        if node.tag == INT and node.value and not DECIMAL.fullmatch(node.value):
            node.tag = STR
        return 1
    size = known.get(id(node), 0)
    if size is None:
        raise yaml.MarkedYAMLError(problem="an alias inside what it stands for", problem_mark=node.start_mark)
    if size == 0:
        known[id(node)] = None
        if isinstance(node, yaml.MappingNode):
            _refuse_doubles(node)
        parts = [n for pair in node.value for n in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = size = 1 + sum(_size(part, known) for part in parts)
    return size


def _refuse_doubles(node: yaml.MappingNode) -> None:
    """Raise YAMLError if a key occurs twice in a mapping. PyYAML would take the last one."""
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
            continue
        line = key.start_mark.line + 1
        if key.value in seen:
            raise yaml.YAMLError(f"{key.value} is set on line {seen[key.value]} and again on line {line}")
        seen[key.value] = line
