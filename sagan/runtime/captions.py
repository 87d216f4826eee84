"""Words in the margins of a picture, in Pillow's own font."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SMALLEST, LARGEST_SHARE, WIDEST = 9, 40, 10  # least font size, pixels; longer side and widest margin, font sizes
ELLIPSIS = "…"
LONGEST = 300  # characters of a name
LATIN = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L"})


@dataclass(frozen=True)
class Captions:
    """Words beside the rows of a grid and above its columns."""

    left: Sequence[str] = ()
    """One for each row, all rows of the same height."""
    right: Sequence[str] = ()
    """One for each row."""
    top: Sequence[tuple[int, int, str]] = ()
    """Start and end of a group of columns, in pixels of the picture before it is enlarged, and the words above it."""


def drawable(text: str, in_font: Callable[[str], bool] | None = None) -> str | None:
    """Return the text in characters that the font has, without accents if need be; None if that is impossible.

    `in_font` says whether another font than Pillow's has a character. Text beyond LONGEST is cut, because measuring it
    takes long, and no picture has room for it.
    """
    text = " ".join(text.split())
    text = text if len(text) <= LONGEST else text[:LONGEST] + ELLIPSIS
    for known in (text, unicodedata.normalize("NFKD", text.translate(LATIN))):
        plain = "".join(c for c in known if not unicodedata.combining(c))
        if plain and all(map(in_font or _in_font, plain)):
            return plain
    return None


def shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return the text, cut with an ellipsis if it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    end = len(text)
    while end and font.getlength(text[:end].rstrip() + ELLIPSIS) > width:
        end -= 1
    return text[:end].rstrip() + ELLIPSIS


def with_captions(image: Tensor, captions: Captions, scale: int = 1) -> Tensor:
    """Return an RGB image (3, H, W) with white margins for the captions; its own pixels are unchanged.

    `scale` is the factor by which the image was enlarged.
    """
    height, width = image.shape[-2:]
    font = _font(_text_height(captions, height, width, scale))
    left, right = (_margin(texts, font) for texts in (captions.left, captions.right))
    line = sum(font.getmetrics())
    top = line + line // 2 if captions.top else 0
    canvas = Image.new("RGB", (left + width + right, top + height), "white")
    draw = ImageDraw.Draw(canvas)
    for texts, start, room in ((captions.left, 0, left), (captions.right, left + width, right)):
        for row, text in enumerate(texts):
            y = top + height * (row + 0.5) / len(texts)
            words = shortened(text, font, room - _gap(font))
            draw.text((start + room / 2, y), words, "black", font, anchor="mm")
    for start, end, text in captions.top:
        words = shortened(text, font, (end - start) * scale)
        draw.text((left + (start + end) * scale / 2, top / 2), words, "black", font, anchor="mm")
    result = torch.from_numpy(np.array(canvas)).permute(2, 0, 1).contiguous()
    result[:, top:, left : left + width] = image
    return result


def _text_height(captions: Captions, height: int, width: int, scale: int) -> int:
    """Return the font size that suits the picture, and lets rows and groups of columns hold their words."""
    size = max(14, max(height, width) // LARGEST_SHARE)
    rows = max(len(captions.left), len(captions.right))
    if rows:
        size = min(size, int(0.7 * height / rows))
    for start, end, text in captions.top:
        size = min(size, int(size * (end - start) * scale / _font(size).getlength(text)) if text else size)
    return max(size, SMALLEST)


def _margin(texts: Sequence[str], font: ImageFont.FreeTypeFont) -> int:
    """Return the width of a margin for the longest text, or for as much of it as is shown."""
    widest = max((font.getlength(text) for text in texts), default=0)
    return int(min(widest, WIDEST * font.size)) + 1 + _gap(font) if widest else 0


def _gap(font: ImageFont.FreeTypeFont) -> int:
    return int(font.size)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # as Pillow's wheels have it
    return font


@cache
def _in_font(character: str) -> bool:
    """Return whether the font has a character. One that it does not have looks like one that no font has."""
    return _drawn(character) != _drawn("\U0010fffe")


def _drawn(character: str) -> bytes:
    """Return the pixels of one character."""
    image = Image.new("L", (40, 40))
    ImageDraw.Draw(image).text((10, 10), character, 255, _font(20))
    return image.tobytes()
