"""Classes that a configuration names by path, such as my_module.MyAttention."""

import importlib
import sys

from sagan.config.errors import ConfigError
from sagan.config.types import shown


def is_dotted(name: str) -> bool:
    """Return whether a name is the path of a class, and not one of this program's own names."""
    return "." in name


def module_of(path: str) -> str:
    """Return the module in the path of a class."""
    return path.rpartition(".")[0]


def import_path(path: str, option: str) -> object:
    """Import what is at a path. Raise ConfigError, naming the option, if that fails."""
    module, _, attribute = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a user's module may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{option} {shown(path)}: cannot be imported: {reason}") from error


def already_imported(path: str) -> object:
    """Return what is at a path if its module is imported already, else None. No code of the module runs."""
    module, _, attribute = path.rpartition(".")
    return vars(sys.modules[module]).get(attribute) if module in sys.modules else None  # getattr may import
