"""Facts in JSON files beside the tables, which outlive the runs that they come from."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sagan.config import UserError
from sagan.runtime.files import write_atomically


def remember(facts: dict[str, Any], file: Path) -> None:
    """Write facts to a file. Raise UserError, naming it, if that is not possible."""
    write_atomically(file, lambda f: f.write((json.dumps(facts, indent=2) + "\n").encode()))


def remembered(file: Path, remedy: str, names: Collection[str] | None = None) -> dict[str, Any] | None:
    """Return the facts in a file, or None without a file. `names` are those that it has to have, if they are known.

    Raise UserError, naming the file and the `remedy`, if it is damaged.
    """
    if not file.is_file():
        return None
    try:
        facts = json.loads(file.read_text())
        if not isinstance(facts, dict) or (names is not None and facts.keys() != {*names}):
            raise ValueError(f"expected {'names and values' if names is None else ', '.join(names)}")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: damaged ({error}); {remedy}") from error
    return facts
