"""Packages of the optional extras."""

from importlib.util import find_spec

from sagan.config import UserError


def require_extra(extra: str, modules: tuple[str, ...], wanted_by: str) -> None:
    """Raise UserError, with the command that installs them, if modules of an extra are missing.

    `wanted_by` is the option or value that needs them.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        packages = ("the package {} is", "the packages {} are")[len(missing) > 1].format(", ".join(missing))
        raise UserError(f"{wanted_by}: {packages} missing. Install the extra in a checkout: pip install '.[{extra}]'")
