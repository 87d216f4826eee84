"""The size of an image from its header is the size of its decoded pixels."""

import numpy as np
import pytest
from PIL import Image

from sagan.data.decoding import UnreadableImage, image_size, read_image


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6])
def test_a_header_tells_the_size_of_the_decoded_image(tmp_path, suffix, orientation):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    file = tmp_path / f"image.{suffix}"
    Image.fromarray(np.zeros((5, 9, 3), np.uint8)).save(file, exif=exif)
    assert image_size(file) == read_image(file, None, 3).shape[1:] == ((9, 5) if orientation == 6 else (5, 9))


def test_only_an_image_that_exif_turns_is_decoded(tmp_path, monkeypatch):
    file = tmp_path / "image.png"
    Image.fromarray(np.zeros((5, 9, 3), np.uint8)).save(file)
    monkeypatch.setattr("sagan.data.decoding.read_image", lambda *args: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda *args: pytest.fail("decoded"))
    assert image_size(file) == (5, 9)


def test_a_broken_header_is_named(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match="x.png: not an image of a known format"):
        image_size(tmp_path / "x.png")
