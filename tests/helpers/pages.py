"""The pages of the repository, and what they show: commands, Python blocks, tables, links."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "sagan/attention/README.md",
    ROOT / "sagan/viewing/README.md",
    ROOT / "sagan/data/README.md",
    ROOT / "sagan/training/README.md",
    ROOT / "sagan/sharing/README.md",
    ROOT / "experiments/README.md",
    *sorted(ROOT.glob("experiments/*/README.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "tests/README.md",
    ROOT / "samples/README.md",
]


def short(page: Path) -> str:
    """Return the path of a page, for people."""
    return str(page.relative_to(ROOT))


def commands(text: str) -> list[list[str]]:
    """Return the commands of a text: those of the ```sh blocks, a line each, without comments; and those in sentences.

    A sentence that names a verb alone, with an option, or with a placeholder in capitals does not show a command.
    """
    blocks = re.findall(r"^```(?:sh|bash|console|shell)\n(.*?)^```", text, flags=re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    shown = [words for line in lines if (words := shlex.split(line, comments=True))]
    spans = [
        span for span in spans_of_code(text) if span.startswith("sagan ") and not re.search(r"\b[A-Z]{2,}\b", span)
    ]
    inline = (shlex.split(span) for span in spans)
    return [*shown, *(words for words in inline if len(words) > 2 and not words[2].startswith("--"))]


def spans_of_code(text: str) -> list[str]:
    """Return what stands in `backticks` in the sentences and tables of a text."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def python_blocks(text: str) -> list[str]:
    """Return the ```python blocks of a text."""
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


def other_blocks(text: str) -> list[str]:
    """Return the languages of the blocks that nothing runs; an empty string for a block that names none."""
    fences = re.findall(r"^```(.*)$", text, flags=re.M)[::2]
    return [fence for fence in fences if fence not in ("sh", "python")]


def tables(text: str) -> list[list[list[str]]]:
    """Return the tables of a text as rows of cells, without the line below the header."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.M)
    return [[cells(line) for i, line in enumerate(table.splitlines()) if i != 1] for table in found]


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table, stripped."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def plain(cell: str) -> str:
    """Return a cell as a record has it: no marks of code or bold, no commas in numbers."""
    cell = re.sub(r"[`*]", "", cell)
    return cell.replace(",", "") if re.fullmatch(r"-?[\d,.]+", cell) else cell


def links(text: str) -> Iterator[str]:
    """Yield the targets of the links and pictures of a text, outside code."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)
    yield from re.findall(r"\]\(([^)\s]+)\)", text)
    yield from re.findall(r'<img src="([^"]+)"', text)
    yield from re.findall(r"^\[[\w-]+\]: (\S+)$", text, flags=re.M)


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a text."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
