"""Files of every kind become the pixels one expects."""

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn.functional import interpolate

from sagan.data import decoding
from sagan.data.decoding import UnreadableImage, centre_box, fit, fit_arrays, image_size, read_image, to_mode


def gradient(height, width):
    """Smooth RGB with three different channels."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 / (width - 1), y * 255 / (height - 1), (x + y) * 255 / (width + height - 2)]
    return np.rint(np.stack(planes, -1)).astype(np.uint8)


def smooth_noise(height, width):
    """Noise of low contrast, so that Pillow clips nothing between its two passes."""
    return np.random.default_rng(0).integers(64, 192, (height, width, 3), np.uint8)


def save(tmp_path, image, name="image.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_rgb_is_untouched_at_its_own_size(tmp_path):
    array = gradient(32, 48)
    got = read_image(save(tmp_path, Image.fromarray(array)), (32, 48), 3)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, array.transpose(2, 0, 1))


def test_grey_from_rgb_is_itu_r_601_luma(tmp_path):
    array = gradient(32, 32)
    got = read_image(save(tmp_path, Image.fromarray(array)), (32, 32), 1)
    assert got.shape == (1, 32, 32)
    assert np.abs(got[0] - array @ [0.299, 0.587, 0.114]).max() <= 1


def test_grey_file_has_three_equal_channels(tmp_path):
    got = read_image(save(tmp_path, Image.fromarray(gradient(32, 32)[..., 0])), (32, 32), 3)
    np.testing.assert_array_equal(got, np.stack([gradient(32, 32)[..., 0]] * 3))


def test_palette_file_has_its_colours(tmp_path):
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 200, 30, 60])
    np.testing.assert_array_equal(read_image(save(tmp_path, image), (32, 32), 3)[:, 0, 0], [200, 30, 60])


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "RGB key", "L key"])
def test_see_through_pixels_lie_on_white(tmp_path, kind):
    options = {}
    if kind == "palette":
        image = Image.new("P", (32, 32), 0)
        image.putpalette([10, 10, 10])
        options["transparency"] = 0
    elif kind == "RGB key":
        image, options["transparency"] = Image.new("RGB", (32, 32), (10, 10, 10)), (10, 10, 10)
    elif kind == "L key":
        image, options["transparency"] = Image.new("L", (32, 32), 10), 10
    else:
        image = Image.new(kind, (32, 32), (10, 10, 10, 0) if kind == "RGBA" else (10, 0))
    for channels in (1, 3):
        assert (read_image(save(tmp_path, image, **options), (32, 32), channels) == 255).all()


def test_half_transparent_is_half_white(tmp_path):
    image = Image.new("RGBA", (32, 32), (0, 100, 200, 128))
    got = read_image(save(tmp_path, image), (32, 32), 3)[:, 0, 0].astype(int)
    expected = np.array([0, 100, 200]) * 128 / 255 + 255 * 127 / 255
    assert np.abs(got - expected).max() <= 1


def test_cmyk_file(tmp_path):
    image = Image.new("CMYK", (32, 32), (255, 0, 0, 0))  # pure cyan
    got = read_image(save(tmp_path, image, "image.tif"), (32, 32), 3)[:, 0, 0]
    np.testing.assert_array_equal(got, [0, 255, 255])


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, channels):
    values = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    got = read_image(save(tmp_path, Image.fromarray(values)), (32, 32), channels)
    expected = np.rint(values / 257)
    assert (got == expected).all()
    assert len(np.unique(got)) == 256  # clipping would leave nearly everything at 255


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "RGBa", "RGB", "L", "1", "I", "I;16", "I;16B"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_change_no_pixel_and_bound_what_a_conversion_allocates(mode, channels, monkeypatch):
    """Modes with few bits are see-through by a key colour. The image is no multiple of a tile."""
    noise = np.random.default_rng(0)
    if mode.startswith("I"):
        values = noise.integers(0, 65536, (37, 53))
        kinds = {"I": np.int32, "I;16": "<u2", "I;16B": ">u2"}
        image = Image.frombytes(mode, (53, 37), values.astype(kinds[mode]).tobytes(), "raw", mode)
    else:
        image = Image.fromarray(noise.integers(0, 256, (37, 53, 4), np.uint8))
        image = image.convert("LA").convert("PA") if mode == "PA" else image.convert(mode)
        image.info |= {"P": {"transparency": 7}, "RGB": {"transparency": image.getpixel((5, 5))}}.get(mode, {})
        image.info |= {"transparency": 255} if mode in ("L", "1") else {}
    whole, sizes = np.asarray(to_mode(image.copy(), channels)), []
    monkeypatch.setattr("sagan.data.decoding.TILE", 16)
    for name in ("on_white", "eight_bits"):
        change = getattr(decoding, name)
        monkeypatch.setattr(decoding, name, lambda tile, change=change: [sizes.append(tile.size), change(tile)][1])
    np.testing.assert_array_equal(np.asarray(to_mode(image, channels)), whole)
    assert len(sizes) == 12 and max(sizes) == (16, 16)


def test_more_pixels_than_pillow_trusts_are_refused_with_both_numbers(tmp_path, monkeypatch):
    path = save(tmp_path, Image.fromarray(gradient(32, 48)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1535)
    for read in (lambda: read_image(path, (16, 16), 3), lambda: image_size(path)):
        with pytest.raises(UnreadableImage, match=r"image.png: 1,536 pixels, expected at most 1,535$"):
            read()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert image_size(path) == (32, 48)


def test_exif_rotation_is_applied(tmp_path):
    upright = gradient(32, 64)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees; viewers turn it clockwise
    stored = Image.fromarray(np.rot90(upright).copy())
    got = read_image(save(tmp_path, stored, exif=exif), (32, 64), 3)
    np.testing.assert_array_equal(got, upright.transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_that_of_pillow(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path, Image.fromarray(gradient(16, 24)), exif=exif)
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(read_image(path, None, 3), expected.transpose(2, 0, 1))


def test_damaged_exif_data_cost_no_image(tmp_path):
    """Pillow cannot write such data back, which rotation does not need."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", (72, 1)
    whole = bytearray(exif.tobytes())
    rng, pixels = random.Random(0), Image.fromarray(gradient(16, 24))
    for i in range(200):
        damaged = bytearray(whole)
        for _ in range(2):
            damaged[rng.randrange(10, len(whole))] = rng.randrange(256)
        path = save(tmp_path, pixels, f"{i}.png", exif=bytes(damaged))
        assert read_image(path, None, 3).shape in ((3, 16, 24), (3, 24, 16))


def test_postscript_is_not_run(tmp_path, monkeypatch):
    """Pillow would start Ghostscript for it, whatever the file is called."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments, **options: pytest.fail("it is run"))
    path = tmp_path / "cat.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(UnreadableImage, match="cat.png: not an image of a known format"):
        read_image(path, (32, 32), 3)


def test_floating_point_file_is_refused_with_the_reason(tmp_path):
    path = save(tmp_path, Image.fromarray(np.ones((32, 32), np.float32)), "image.tif")
    with pytest.raises(UnreadableImage, match="image.tif.*no defined range"):
        read_image(path, (32, 32), 3)


@pytest.mark.parametrize("kind", ["truncated", "text", "empty", "missing"])
def test_broken_files_are_named(tmp_path, kind):
    path = tmp_path / "broken.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"not an image", "empty": b""}[kind])
    with pytest.raises(UnreadableImage, match="broken.jpg"):
        read_image(path, (32, 32), 3)


@pytest.mark.parametrize(
    ("of", "size", "box"),
    [
        ((100, 200), (32, 32), (50, 0, 150, 100)),
        ((200, 100), (32, 32), (0, 50, 100, 150)),
        ((100, 200), (32, 64), (0, 0, 200, 100)),
        ((60, 35), (64, 32), (2.5, 0, 32.5, 60)),
    ],
)
def test_the_crop_is_the_largest_centred_box(of, size, box):
    assert centre_box(of, size) == pytest.approx(box)


def bicubic_matrix(length, start, stop, count):
    """Rows of weights of Keys' cubic (a = -0.5) that resample [start, stop) of `length` pixels to `count`."""
    scale = (stop - start) / count
    centres = start + (np.arange(count) + 0.5) * scale
    t = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(scale, 1)  # widened when shrinking
    weights = np.where(t < 1, 1.5 * t**3 - 2.5 * t**2 + 1, np.where(t < 2, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2, 0))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("height", "width", "size"), [(100, 160, (32, 32)), (97, 64, (32, 64)), (20, 25, (32, 32))])
def test_crop_and_resize_are_bicubic_over_the_centred_box(height, width, size):
    array = smooth_noise(height, width)
    left, top, right, bottom = centre_box((height, width), size)
    down, across = bicubic_matrix(height, top, bottom, size[0]), bicubic_matrix(width, left, right, size[1])
    expected = np.einsum("yh,hwc,xw->yxc", down, array, across)
    got = np.asarray(fit(Image.fromarray(array), size))
    assert np.abs(got - expected).max() <= 1.5  # Pillow rounds to 8 bits after each of its two passes


@pytest.mark.parametrize("side", [100, 20])
def test_resize_agrees_with_torch(side):
    array = smooth_noise(side, side)
    planes = torch.from_numpy(array).permute(2, 0, 1)[None].float()
    expected = interpolate(planes, (32, 32), mode="bicubic", antialias=True)[0]
    got = torch.tensor(np.array(fit(Image.fromarray(array), (32, 32)))).permute(2, 0, 1)
    assert (got - expected).abs().max() <= 1.5


def test_shrinking_does_not_alias():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the result can show: must become even grey
    got = np.asarray(fit(Image.fromarray(stripes), (32, 32))).astype(int)
    assert np.abs(got[:, 2:-2] - 127.5).max() < 3


def test_arrays_follow_the_same_rules_as_files(tmp_path):
    array = gradient(40, 50)
    path = save(tmp_path, Image.fromarray(array))
    for channels in (1, 3):
        np.testing.assert_array_equal(
            fit_arrays(array[None], (32, 32), channels)[0], read_image(path, (32, 32), channels)
        )
    grey = fit_arrays(array[None, :, :, :1], (32, 32), 3)
    assert grey.shape == (1, 3, 32, 32) and (grey[:, 0] == grey[:, 2]).all()
