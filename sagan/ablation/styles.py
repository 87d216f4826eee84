"""One colour for each kind of attention in every plot, and markers that distinguish variants of the same colour.

The colours are Okabe and Ito's, with indigo, brown and grey instead of yellow, which is hard to see on white. They can
be told apart with the common forms of colour blindness. Kinds that are not listed are grey.
"""

from dataclasses import dataclass

BLACK, GREY, BLUE, ORANGE, GREEN = "#000000", "#555555", "#0072B2", "#E69F00", "#009E73"
VERMILLION, SKY, PINK, INDIGO, BROWN = "#D55E00", "#56B4E9", "#CC79A7", "#332288", "#8B4513"
PALETTE = (BLACK, BLUE, VERMILLION, GREEN, ORANGE, PINK, SKY, INDIGO, BROWN, GREY)
KIND_STYLES: dict[str, tuple[str, str]] = {
    "none": (BLACK, "o"),
    "residual": (BROWN, "s"),
    "sagan": (BLUE, "o"),
    "multihead": (VERMILLION, "o"),
    "additive": (SKY, "s"),
    "non-local": (PINK, "o"),
    "base-oc": (SKY, "o"),
    "pyramid-oc": (INDIGO, "s"),
    "asp-oc": (VERMILLION, "s"),
    "se": (ORANGE, "o"),
    "ge": (GREEN, "o"),
    "cbam": (INDIGO, "o"),
    "residual-attention": (ORANGE, "s"),
    "global-context": (GREEN, "s"),
    "eca": (PINK, "s"),
    "coordinate": (BLUE, "s"),
}
FURTHER = "^DvPX<>*hd"  # markers of further variants of one kind, and of kinds that are not listed
DASHES = {"o": "-", "s": "--", "^": ":", "D": "-."}


@dataclass(frozen=True)
class Style:
    """The colour and marker of a variant."""

    color: str
    marker: str

    @property
    def dash(self) -> str:
        """Return the line style that goes with the marker."""
        return DASHES.get(self.marker, "-")


def variant_styles(kinds: dict[str, str], baseline: str) -> dict[str, Style]:
    """Return variant -> style, from variant -> kind of attention. All styles differ in a plan of usual size.

    A variant has the colour of its kind, and further variants of the kind have other markers. If all variants have the
    same kind, they take the colours of the palette in turn, the baseline first.
    """
    if len(kinds) > 1 and len(set(kinds.values())) == 1:
        order = sorted(kinds, key=lambda v: v != baseline)
        looks = [Style(color, marker) for marker in "os" + FURTHER for color in PALETTE]
        return {v: looks[i % len(looks)] for i, v in enumerate(order)}
    styles: dict[str, Style] = {}
    for variant, kind in kinds.items():
        color, marker = KIND_STYLES.get(kind, (GREY, FURTHER[0]))
        free = [m for m in (marker, *FURTHER) if Style(color, m) not in styles.values()]
        styles[variant] = Style(color, free[0] if free else marker)
    return styles
