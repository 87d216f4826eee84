"""Reading of the records that `sagan.viewing.records` writes, none of which is trusted. Imports no torch."""

import json
import math
import re
import sys
import zlib
from collections.abc import Callable
from typing import Any

from sagan.map_kinds import MAP_KINDS

LONGEST_HEADER = 2**20  # bytes
LONGEST_TEXT = 500
LARGEST_MAP = 2**26  # bytes inflated; a record of this version has a hundredth of that
LARGEST_SIDE = 2**16
PNG = b"\x89PNG\r\n\x1a\n"


class BadRecord(ValueError):
    """A record that is damaged or from another version. The message says what is wrong without quoting the record."""


def read_header(blob: bytes, blobs: int) -> dict:
    """Return the checked header of a record with `blobs` blobs: the fields that `encode` writes and no others.

    Raise BadRecord if anything is wrong.
    """
    _expect(len(blob) <= LONGEST_HEADER, "the header is too long")
    try:
        header = json.loads(blob.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRecord("the header is not JSON") from error
    _expect(isinstance(header, dict), "the header is not an object")
    _expect(header.get("version") == 1, "the record is of another version of sagan")
    images, maps, labels = header.get("images"), header.get("maps"), header.get("labels")
    _expect(_is_count(images), "images is not a count")
    _expect(isinstance(maps, list) and 1 <= len(maps) <= 64, "maps is not a list")
    _expect(labels is None or _is_list(labels, images, _is_text), "labels are not one text for each image")
    _expect(all(_is_text(header.get(key)) for key in ("network", "layer", "source", "kind")), "a name is not a text")
    gamma = header.get("gamma")  # None without a gain, and "NaN" for one that is not finite
    _expect(_is_number(gamma) or gamma == "NaN", "gamma is not a number")
    change = header.setdefault("change", None)  # older records have none
    _expect(change is None or _is_list(change, images, _is_number), "change is not one number for each image")
    _expect(_is_list(header.get("size"), 2, _is_count), "size is not a height and a width")
    without = header.setdefault("without", False)
    _expect(isinstance(without, bool), "without is not true or false")
    _expect(blobs == 1 + images * (1 + len(maps) + without), "the number of blobs does not fit the header")
    known = ("network", "layer", "source", "kind", "gamma", "change", "labels", "images", "without", "size")
    return {**{key: header[key] for key in known}, "maps": [_read_entry(entry, images) for entry in maps]}


def read_map(blob: bytes, entry: dict) -> bytes:
    """Return a decompressed map: lowest, highest (float32) and levels (uint8) of its rows. Raise BadRecord."""
    rows = entry["groups"] * math.prod(entry["queries"])
    size = rows * (8 + math.prod(entry["keys"]))
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(blob, size + 1)  # a decompression bomb stops there
    except zlib.error as error:
        raise BadRecord("the map cannot be inflated") from error
    _expect(len(content) == size, "the map does not have the length given in its header")
    _expect(inflate.eof and not inflate.unused_data, "the map is cut off, or more follows it")
    return content


def read_image(blob: bytes) -> bytes:
    """Return a PNG file unchanged. Raise BadRecord for anything else."""
    _expect(blob.startswith(PNG) and blob[12:16] == b"IHDR", "the image is not a PNG file")
    return blob


def blob_of_image(header: dict, image: int) -> int:
    """Return the index of an image's picture among the blobs; its maps follow it."""
    return 1 + image * (1 + len(header["maps"]))


def blob_without(header: dict, image: int) -> int:
    """Return the index of an image without the layer; valid only if the header's `without` is true."""
    return 1 + header["images"] * (1 + len(header["maps"])) + image


def _read_entry(entry: Any, images: int) -> dict[str, Any]:
    _expect(isinstance(entry, dict), "a map is not an object")
    grids = ("queries", "keys", "whole_queries", "whole_keys")
    numbers = ("entropy", "minimum", "maximum")
    _expect(_is_text(entry.get("kind")) and entry["kind"] in MAP_KINDS, "the kind of a map is unknown")
    _expect(_is_count(entry.get("groups")), "groups is not a count")
    _expect(isinstance(entry.get("distribution"), bool), "distribution is not true or false")
    _expect(all(_is_list(entry.get(key), 2, _is_count) for key in grids), "a grid is not a height and a width")
    _expect(all(_is_list(entry.get(key), images, _is_number) for key in numbers), "a map's statistics are not numbers")
    rows = entry["groups"] * math.prod(entry["queries"])
    _expect(rows * (8 + math.prod(entry["keys"])) <= LARGEST_MAP, "a map is too large")
    form = MAP_KINDS[entry["kind"]]
    _expect(
        not form.windowed or math.isqrt(entry["groups"]) ** 2 == entry["groups"],
        "the number of windows is not a square",
    )
    _expect(not form.gate or math.prod(entry["queries"]) == 1, "a gate has queries")
    return {key: entry[key] for key in ("kind", "groups", "distribution", *grids, *numbers)} | form._asdict()


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise BadRecord(otherwise)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity, which no browser reads


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= LARGEST_SIDE  # type: True is an int too


def _is_number(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) <= sys.float_info.max)  # False for NaN, too


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and not re.search(r"[\ud800-\udfff]", value)


def _is_list(value: Any, length: int, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) == length and all(map(holds, value))
