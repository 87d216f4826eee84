"""Words in the margins of pictures: legible, whole or cut with an ellipsis, in letters that the font has."""

import numpy as np
import pytest
import torch
from PIL import ImageFont

from sagan.runtime.captions import Captions, drawable, shortened, with_captions


def ink(pixels):
    """Return the rows and the columns between the first and the last dark pixel of (3, H, W)."""
    dark = (pixels < 128).all(0).numpy()
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    return rows[0], rows[-1], columns[0], columns[-1]


@pytest.mark.parametrize("side, scale", [(32, 2), (256, 1)])
@pytest.mark.parametrize("name", ["gypsy", "a name that is far too long for any margin of a picture"])
def test_words_are_legible_and_whole_at_every_size(side, scale, name):
    cell = side * scale
    grid = torch.full((3, 10 * cell, 10 * cell), 200, dtype=torch.uint8)
    picture = with_captions(grid, Captions([name] * 10, top=[(0, side * 10, "Ágj")]), scale)
    top, left = picture.shape[1] - grid.shape[1], picture.shape[2] - grid.shape[2]
    assert torch.equal(picture[:, top:, left:], grid)
    for row in range(10):
        y0, y1, x0, x1 = ink(picture[:, top + row * cell : top + (row + 1) * cell, :left])
        assert 10 * cell / 80 < y1 - y0 + 1 < cell - 2 and 0 < y0 and y1 < cell - 1  # letters of a fair height
        assert 0 < x0 and x1 < left - 1
    y0, y1, *_ = ink(picture[:, :top])
    assert 0 < y0 and y1 < top - 1


def test_a_long_name_is_cut_with_an_ellipsis():
    font = ImageFont.load_default(20)
    assert shortened("cat", font, 100) == "cat"
    cut = shortened("a very long name of a class", font, 100)
    assert cut.endswith("…") and "a very long name".startswith(cut[:-1]) and 80 < font.getlength(cut) <= 100


@pytest.mark.parametrize(
    "text, shown",
    [
        ("cat", "cat"),
        ("two\n lines", "two lines"),
        ("Jäger Ø", "Jager O"),
        ("e\u0301clair", "eclair"),
        ("Großer", "Grosser"),
        ("猫", None),
        ("猫 cat", None),
        ("Кот", None),
        ("", None),
    ],
)
def test_letters_that_the_font_has_not_are_replaced(text, shown):
    assert drawable(text) == shown


def test_words_above_a_narrow_column_shrink_until_they_fit():
    grid = torch.full((3, 640, 640), 200, dtype=torch.uint8)
    picture = with_captions(grid, Captions(top=[(0, 100, "nearest by pixels"), (120, 640, "b")]))
    top = picture.shape[1] - 640
    *_, x0, x1 = ink(picture[:, :top, :110])
    assert 0 <= x0 and 80 < x1 <= 100


def test_a_name_that_no_picture_has_room_for_is_cut_before_it_is_measured():
    name = drawable("W" * 99_000)
    assert name is not None and len(name) < 500 and name.endswith("W…")
    assert shortened(name, ImageFont.load_default(14), 100).endswith("W…")
