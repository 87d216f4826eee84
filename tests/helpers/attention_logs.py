"""Records of attention to test with, and their weights read by another route than the page's."""

import json
import zlib

import numpy as np
import torch

from sagan.attention import AttentionMap
from sagan.runs.log import RunLog
from sagan.viewing.capture import LayerView
from sagan.viewing.plugin import NAME
from sagan.viewing.records import encode, record_tag

HOSTILE = "<img src=x onerror=document.title='broken'> & ü %2e%2e"
QUOTED = 'a "run" \\ of its own'


def view_of(*maps, images=2, network="generator", layer="blocks.1.attention", source="generated", gamma=0.25):
    pictures = torch.randint(0, 256, (images, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    change = torch.linspace(0.005, 0.3, images)  # the first image's layer is hardly in use
    names = ("cat", "dog")
    without = (pictures // 2 + 10) if network == "generator" else None
    return LayerView(network, layer, source, pictures, torch.arange(images), list(maps), gamma, change, names, without)


def matrix(heads=1, queries=(4, 4), keys=(2, 2), images=2, seed=0):
    """Return a random map, each row a distribution."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, heads, queries[0] * queries[1], keys[0] * keys[1], generator=random)
    return AttentionMap("matrix", (2 * logits).softmax(-1), queries, keys, distribution=True)


def decode(blobs, image, index):
    """One map of a record as float64 (rows, columns), and how far a weight may be off, (rows, 1)."""
    header = json.loads(blobs[0])
    entry = header["maps"][index]
    rows, columns = entry["groups"] * np.prod(entry["queries"]), np.prod(entry["keys"])
    content = zlib.decompress(blobs[1 + image * (1 + len(header["maps"])) + 1 + index])
    low, high = np.frombuffer(content, "<f4", 2 * rows).reshape(2, rows, 1).astype(np.float64)
    levels = np.frombuffer(content, np.uint8, offset=8 * rows).reshape(rows, columns)
    return low + levels / 255 * (high - low), (high - low) / 510 + 1e-7


def write_run(directory, records, resumed_at=0):
    """Write an event file with (tag, step, blobs) into a run directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with RunLog(directory) as log:
        log.begin(resumed_at)
        for tag, step, blobs in records:
            log.blobs(tag, blobs, step, NAME)


def good_view(step=1, network="generator", source="generated", **options):
    return view_of(matrix(seed=step, **options), network=network, source=source)


def good_record(step=1, **options):
    view = good_view(step, **options)
    return record_tag(view), step, encode(view, "sagan")


def damaged_records():
    """Return {what is wrong: blobs}: records with one thing wrong each."""
    blobs = encode(view_of(matrix()), "sagan")
    header = json.loads(blobs[0])

    def with_header(**changes):
        return [json.dumps({**header, **changes}).encode(), *blobs[1:]]

    def with_entry(**changes):
        return with_header(maps=[{**header["maps"][0], **changes}])

    def with_map(blob):
        return [*blobs[:2], blob, *blobs[3:]]

    content = zlib.decompress(blobs[2])
    return {
        "no JSON": [b"{", *blobs[1:]],
        "no UTF-8": [b"\xff", *blobs[1:]],
        "nested without end": [b"[" * 100_000, *blobs[1:]],
        "not an object": [b"[]", *blobs[1:]],
        "NaN": with_header(gamma=float("nan")),
        "text for a number": with_header(gamma="0.5"),
        "true for a number": with_header(images=True),
        "another version": with_header(version=2),
        "a name that is none": with_header(layer=["x"]),
        "half a character": with_header(layer="\ud800"),
        "labels of other images": with_header(labels=["a"]),
        "changes of other images": with_header(change=[0.1]),
        "a change that is no number": with_header(change=["0.1", 0.1]),
        "no maps": with_header(maps=[]),
        "without that is no truth": with_header(without=1),
        "without less than it says": with_header(without=False),
        "more images than blobs": with_header(images=3, labels=None),
        "images without number": with_header(images=10**9),
        "truncated": blobs[:-1],
        "header alone": blobs[:1],
        "nothing": [],
        "unknown kind": with_entry(kind="script"),
        "a kind that is a list": with_entry(kind=["matrix"]),
        "an integer beyond all floats": with_header(gamma=10**400),
        "an entropy beyond all floats": with_entry(entropy=[10**400, 0.5]),
        "a grid of one side": with_entry(queries=[16]),
        "a grid below 0": with_entry(keys=[-2, -2]),
        "a map without bounds": with_entry(queries=[60_000, 60_000], whole_queries=[60_000, 60_000]),
        "windows that form no square": with_entry(kind="windowed matrix", groups=3),
        "a gate with queries": with_entry(kind="full gate"),
        "entropies of other images": with_entry(entropy=[0.5]),
        "another grid than the map's": with_entry(queries=[4, 2]),
        "a map cut off": with_map(blobs[2][:-3]),
        "a map that is no zlib": with_map(b"PK" + blobs[2]),
        "a map too short": with_map(zlib.compress(content[:-1])),
        "a zip bomb": with_map(zlib.compress(bytes(50_000_000))),
        "more after the map": with_map(blobs[2] + b"x"),
        "not a PNG": [blobs[0], b"<svg onload=alert(1)>", *blobs[2:]],
    }
