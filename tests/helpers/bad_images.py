"""A corpus of image files that break readers, made from nothing: some must be read, the others refused in one line."""

import io
import os
import random
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = {"jpg": "JPEG", "tif": "TIFF", **{kind: kind.upper() for kind in ("png", "webp", "bmp", "gif", "ppm", "tga")}}


def picture(mode="RGB", size=(40, 32)) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), np.uint8)
    return Image.fromarray(noise.squeeze(2) if channels == 1 else noise)


def encoded(kind: str, image: Image.Image | None = None, **options) -> bytes:
    file = io.BytesIO()
    (image or picture()).save(file, FORMATS.get(kind, kind), **options)
    return file.getvalue()


def encoded_as(name: str) -> bytes:
    """Return an image file in a format of Pillow that is no format of data sets."""
    file = io.BytesIO()
    picture().save(file, name)
    return file.getvalue()


def png_with_header(width: int, height: int) -> bytes:
    """Return a PNG file that claims a size and holds hardly any pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 99)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def with_exif(data: bytes) -> bytes:
    image, file = picture(), io.BytesIO()
    image.save(file, "JPEG", exif=b"Exif\0\0" + data)
    return file.getvalue()


def readable() -> dict[str, bytes]:
    """Return files that hold an image, however odd."""
    palette, alpha = picture().convert("P"), picture("RGBA")
    files = {f"plain.{kind}": encoded(kind) for kind in FORMATS}
    files |= {
        "grey.png": encoded("png", picture("L")),
        "alpha.png": encoded("png", alpha),
        "grey-alpha.png": encoded("png", alpha.convert("LA")),
        "palette.png": encoded("png", palette),
        "transparent-palette.png": encoded("png", palette, transparency=3),
        "one-bit.png": encoded("png", picture("L").convert("1")),
        "16-bit.png": encoded("png", Image.fromarray(np.full((8, 8), 40000, np.uint16))),
        "cmyk.jpg": encoded("jpg", picture().convert("CMYK")),
        "cmyk.tif": encoded("tif", picture().convert("CMYK")),
        "progressive.jpg": encoded("jpg", progressive=True),
        "animated.gif": encoded("gif", save_all=True, append_images=[picture().rotate(90)] * 3),
        "animated.webp": encoded("webp", save_all=True, append_images=[picture().rotate(90)] * 3),
        "one-pixel.png": encoded("png", picture(size=(1, 1))),
        "line.png": encoded("png", picture(size=(3000, 1))),
        "column.bmp": encoded("bmp", picture(size=(1, 3000))),
        "large.png": encoded("png", Image.new("L", (10_000, 8_900))),
        "wrong-suffix.png": encoded("jpg"),
        "upper.JPG": encoded("jpg"),
        "corrupt-exif.jpg": with_exif(b"II*\0\x08\0\0\0\xff\xff\x12\x01"),
        "short-exif.jpg": with_exif(b"MM"),
        "exif-loop.jpg": with_exif(b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\0\0\0\0"),
        "text-orientation.jpg": with_exif(b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\x006\0\0\0\0\0\0\0"),
        "orientation-99.jpg": with_exif(b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0"),
        "trailing-garbage.png": encoded("png") + os.urandom(500),
        "white space.png": encoded("png"),
        "new\nline.png": encoded("png"),
        "escape\x1b[31m.png": encoded("png"),
        "ünï☃.png": encoded("png"),
    }
    return files


def unreadable() -> dict[str, bytes]:
    """Return files that hold no image, or not all of one."""
    rng = random.Random(0)
    files = {f"half.{kind}": encoded(kind)[: len(encoded(kind)) // 2] for kind in FORMATS if kind not in ("gif", "tga")}
    files |= {f"head.{kind}": encoded(kind)[:20] for kind in FORMATS}
    files |= {f"empty.{kind}": b"" for kind in FORMATS}
    files |= {f"noise.{kind}": rng.randbytes(3000) for kind in ("png", "jpg", "webp", "bmp", "gif", "tif")}
    files |= {
        "text.png": b"this is not an image\n",
        "page.jpg": b"<!DOCTYPE html><html>404</html>",
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "script.tif": b"#!/bin/sh\nexit\n",
        "zip.png": b"PK\x03\x04" + bytes(60),
        "pdf.jpg": b"%PDF-1.4\n%%EOF",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n",
        "icon.png": encoded_as("ICO"),
        "bomb.png": png_with_header(60_000, 60_000),
        "large-alpha.png": encoded("png", Image.new("LA", (10_000, 9_500))),  # Pillow warns of a bomb
        "lie.png": png_with_header(4000, 4000),
        "no-pixels.png": png_with_header(0, 0),
        "negative.bmp": encoded("bmp")[:18] + struct.pack("<ii", -5, 7) + encoded("bmp")[26:60],
        "float.tif": encoded("tif", Image.fromarray(np.ones((8, 8), np.float32))),
        "32-bit.tif": encoded("tif", Image.fromarray(np.full((8, 8), 2**30, np.int32))),
        "huge.ppm": b"P6\n999999 999999\n255\n" + bytes(100),
        "words.ppm": b"P6\nwide high\n255\n" + bytes(100),
        "loop.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\xf7\0\0" + bytes(800),
        "flipped.png": bytes(b ^ 0x55 if 60 < i < 90 else b for i, b in enumerate(encoded("png"))),
        "no-\udcff-name.png": b"",
    }
    return files


def write_corpus(folder: Path) -> tuple[list[Path], list[Path]]:
    """Write all files and what only looks like one; return those that must be read, and those that must not."""
    folder.mkdir(parents=True, exist_ok=True)
    good, bad = ([(folder / name, data) for name, data in made.items()] for made in (readable(), unreadable()))
    for file, data in [*good, *bad]:
        file.write_bytes(data)
    (folder / "not-utf8-\udcfe.png").write_bytes(encoded("png"))
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(folder)  # the path of a socket is limited to 108 bytes
        server.bind("socket.png")
        os.chdir(here)
    odd = [folder / name for name in ("pipe.png", "zero.png", "dangling.png", "itself.png", "socket.png")]
    return [*(file for file, _ in good), folder / "not-utf8-\udcfe.png"], [*(file for file, _ in bad), *odd]
