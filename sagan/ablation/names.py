"""Names in figures: in letters that the fonts of figures have, and short enough for their places."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font

from sagan.runtime.captions import ELLIPSIS, drawable

WEIGHTS = ("normal", "bold")
WIDEST = 150.0  # points: about 30 letters of FONT_SIZE
FONT_SIZE = 9
USUAL = 110.0  # points: names beside a plot that its usual width allows for
TITLE_LETTERS, TITLE_LINES = 12, 6  # most letters of a line, most lines


def readable_names(variants: Iterable[str]) -> dict[str, str]:
    """Return variant -> its name in letters that the fonts have, or "variant 2", as counted from 1 in the plan."""
    return _distinct({variant: _readable(variant) for variant in variants})


def short_names(variants: Iterable[str]) -> dict[str, str]:
    """Return variant -> its readable name, without its middle if it is wide, or "variant 2" if another is cut alike."""
    return _distinct({variant: without_middle(name) for variant, name in readable_names(variants).items()})


def numbered_names(variants: Iterable[str]) -> dict[str, str]:
    """Return variant -> "variant 2" for the variants whose short name is their number."""
    names = enumerate(short_names(variants).items(), 1)
    return {variant: name for i, (variant, name) in names if name == f"variant {i}" != variant}


def without_middle(name: str) -> str:
    """Return a name with an ellipsis for as much of its middle as makes it wider than WIDEST."""
    cut, kept = name, len(name)
    while width(cut, FONT_SIZE) > WIDEST:
        kept -= 1
        cut = name[: (kept + 1) // 2].rstrip() + ELLIPSIS + name[len(name) - kept // 2 :].lstrip()
    return cut


def room_for(names: Iterable[str]) -> float:
    """Return how much wider, in inches, a plot has to be for the names beside it."""
    return max(0.0, max(width(name, FONT_SIZE, "bold") for name in names) - USUAL) / 72


def width(text: str, size: float, weight: str = "normal") -> float:
    """Return how wide a line of text is, in points."""
    font = _font(weight)
    font.set_size(size, 72)
    font.set_text(text, 0.0)
    return font.get_width_height()[0] / 64


def title_lines(name: str, otherwise: str, size: float, widest: float) -> list[str]:
    """Return a name as lines of at most `widest` points, or `otherwise` if the fonts lack its letters."""
    text = _readable(name) or otherwise
    broken = (
        textwrap.wrap(text, letters, max_lines=TITLE_LINES, placeholder=ELLIPSIS)
        for letters in range(TITLE_LETTERS, 0, -1)
    )
    lines: list[str] = []
    for lines in broken:
        if all(width(line, size) <= widest for line in lines):
            break
    return lines


def _distinct(names: Mapping[str, str | None]) -> dict[str, str]:
    """Return the names, with a numbered one for each that is missing or that several variants have."""
    times = Counter(names.values())
    numbered = enumerate(names.items(), 1)
    return {variant: name if name and times[name] == 1 else f"variant {i}" for i, (variant, name) in numbered}


def _readable(name: str) -> str | None:
    return drawable(name, lambda character: all(_font(weight).get_char_index(ord(character)) for weight in WEIGHTS))


def _font(weight: str) -> FT2Font:
    return get_font(findfont(FontProperties(weight=weight)))
