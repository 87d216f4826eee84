"""Tables as CSV files, whose cells are numbers, apart from a few columns of text."""

import csv
import io
import re
from pathlib import Path

from sagan.config import UserError
from sagan.runtime.files import write_atomically

Row = dict[str, str | float | int]

TEXT = ("variant", "metric", "role", "verdict", "status", "reason", "warnings", "config", "protocol")


def write_table(rows: list[Row], file: Path, first: tuple[str, ...], last: tuple[str, ...] = ()) -> None:
    """Write rows as CSV, with the columns `first` and `last` around all others, completely or not at all."""
    between = dict.fromkeys(k for row in rows for k in row if k not in (*first, *last))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*first, *between, *last], lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: f"{v:.8g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])
    write_atomically(file, lambda f: f.write(text.getvalue().encode()))


def read_table(file: Path) -> list[Row]:
    """Return the rows of a CSV file, with cells converted to numbers and empty ones dropped; [] without a file.

    Raise UserError if it is not such a table.
    """
    if not file.is_file():
        return []
    try:
        with open(file, encoding="utf-8-sig", newline="") as content:
            rows = list(csv.DictReader(content))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read as a table: {error}") from error
    if rows and not all(row.get("variant") and (row.get("seed") or row.get("metric")) for row in rows):
        raise UserError(f"{file}: expected a table with the columns variant and seed")
    return [{k: v if k in TEXT else number(v) for k, v in row.items() if k and v not in ("", None)} for row in rows]


def number(text: str) -> str | float | int:
    """Return a cell as a number if it is one."""
    if re.fullmatch(r"-?[0-9]{1,19}", text):  # a seed has up to 63 bits
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
