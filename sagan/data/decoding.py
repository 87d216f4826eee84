"""Decoding of any image file to uint8 pixels of one size.

All sources share one procedure: rotate as EXIF says, convert to 8-bit greyscale or RGB, crop the largest centred box of
the target's aspect ratio, and resize it with Pillow's bicubic filter. Pillow widens the filter when it shrinks an
image, so nothing aliases. Images that already have the size are not resampled.
"""

import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .pnm .tga .jp2 .avif".split()
)
# Their formats. Pillow goes by the content, whatever the name says, and would run Ghostscript on any PostScript.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA", "JPEG2000", "AVIF")
# What rotates and mirrors an image as each value of EXIF's orientation asks for; 1 leaves it as it is.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MODES = {1: "L", 3: "RGB"}  # "L" is ITU-R 601 luma: 0.299 R + 0.587 G + 0.114 B
WHITE = (255, 255, 255, 255)
TILE = 1024  # pixels of each side


class UnreadableImage(Exception):
    """An image file cannot be decoded. The message names the file and the reason."""


def read_image(
    path: Path | str | BinaryIO, size: tuple[int, int] | None, channels: int, name: Path | str | None = None
) -> np.ndarray:
    """Return the image in a file as uint8 (channels, H, W), in its own size if `size` is None.

    Return the first frame of an animation. Raise UnreadableImage, naming the path, or `name` if given, if anything
    goes wrong.
    """
    try:
        with opened(path) as file:
            file.load()  # decodes all of it, so a truncated file fails here
            image = to_mode(upright(file), channels)
            return pixels(image if size is None else fit(image, size))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything for broken files
        raise UnreadableImage(f"{name or path}: {reason(error)}") from error


def image_size(path: Path | str) -> tuple[int, int]:
    """Return the height and width of what `read_image` returns, from the header alone unless EXIF rotates the image.

    Raise UnreadableImage, naming the path, if anything goes wrong.
    """
    try:
        with opened(path) as file:
            # Asking for EXIF data that are not in the header would decode a PNG file.
            known = file.format != "PNG" or "exif" in file.info
            turned = known and orientation(file) > 4
            height, width = file.height, file.width
    except Exception as error:  # decoders raise nearly anything for broken files
        raise UnreadableImage(f"{path}: {reason(error)}") from error
    if turned:
        height, width = read_image(path, None, 3).shape[1:]
    return height, width


@contextmanager
def opened(path: Path | str | BinaryIO) -> Iterator[Image.Image]:
    """Open an image file, on disk or in memory, without Pillow's warnings.

    What they warn about is either harmless here or an error. Raise ValueError for a pipe or a device, which could block
    forever, and for more pixels than Pillow trusts a file with: a small file can hold any number.
    """
    if isinstance(path, (str, Path)) and not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")
    with warnings.catch_warnings(action="ignore"), Image.open(path, formats=known_formats()) as file:
        found, most = file.width * file.height, Image.MAX_IMAGE_PIXELS
        if most is not None and found > most:
            raise ValueError(f"{found:,} pixels, expected at most {most:,}")
        yield file


@cache
def known_formats() -> tuple[str, ...]:
    """Return those of FORMATS that this version of Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def orientation(image: Image.Image) -> int:
    """Return the orientation in an image's EXIF data, from 1 to 8; 1 if there is none, or none that can be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data raise nearly anything, and say nothing about the pixels
        return 1
    return found if found in UPRIGHT else 1


def upright(image: Image.Image) -> Image.Image:
    """Return an image rotated and mirrored as its EXIF data say."""
    turn = UPRIGHT.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def reason(error: Exception) -> str:
    """Return why an image cannot be read, without the path that some errors repeat."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def to_mode(image: Image.Image, channels: int) -> Image.Image:
    """Return an image of any Pillow mode as 8-bit greyscale or RGB, with transparency over white."""
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        image = in_tiles(image, "L", eight_bits)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save the image with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = in_tiles(image, "RGB", on_white)
    if image.mode not in ("L", "1", "RGB"):
        image = image.convert("RGB")  # from CMYK, YCbCr, LAB, palette: greyscale is always the luma of RGB
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def in_tiles(image: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return the image of this mode that `change` makes of an image, tile by tile.

    What `change` needs for itself is several times as large as an image, which may have half a gigabyte.
    """
    changed = Image.new(mode, image.size)
    for left, top in product(range(0, image.width, TILE), range(0, image.height, TILE)):
        box = (left, top, min(left + TILE, image.width), min(top + TILE, image.height))
        changed.paste(change(image.crop(box)), box)
    return changed


def on_white(image: Image.Image) -> Image.Image:
    """Return an image with transparency as RGB, over white."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image).convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """Return a 16-bit greyscale image as 8-bit: 0..65535 becomes 0..255. Pillow's own conversion clips at 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"pixels from {values.min()} to {values.max()}: more than 16 bits have no defined range")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 = 257 * 255


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Centre-crop to the aspect ratio of `size` (H, W), then resize to it."""
    height, width = size
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BICUBIC, box=centre_box((image.height, image.width), size))


def centre_box(of: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of the largest centred box in an image of (H, W) with the aspect ratio of `size`.

    The edges may fall inside pixels, so the crop is exactly centred. Near the edges, the filter also reads pixels
    outside the box; if the image were cropped first, it would have to repeat the last row.
    """
    scale = min(of[0] / size[0], of[1] / size[1])
    height, width = size[0] * scale, size[1] * scale
    top, left = (of[0] - height) / 2, (of[1] - width) / 2
    return max(left, 0.0), max(top, 0.0), min(left + width, float(of[1])), min(top + height, float(of[0]))


def pixels(image: Image.Image) -> np.ndarray:
    """Return an "L" or "RGB" image as uint8 (channels, H, W)."""
    array = np.array(image)  # a copy: Pillow's own memory is read-only, which torch warns about
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def fit_arrays(arrays: np.ndarray, size: tuple[int, int], channels: int) -> np.ndarray:
    """Convert decoded images, uint8 (n, h, w, c) with c 1 or 3, to (n, channels, H, W) by the same rules as files."""
    if arrays.shape[1:] == (*size, channels):
        return np.ascontiguousarray(arrays.transpose(0, 3, 1, 2))
    images = (Image.fromarray(a[..., 0] if a.shape[-1] == 1 else a) for a in arrays)
    fitted = [pixels(fit(to_mode(image, channels), size)) for image in images]
    return np.stack(fitted) if fitted else np.empty((0, channels, *size), np.uint8)
