"""Records of attention: the maps of every kind come back from them, and they stay small."""

import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sagan.attention import AttentionMap, capture_maps
from sagan.viewing.page import _html
from sagan.viewing.plugin.record import BadRecord, blob_of_image, blob_without, read_header, read_image, read_map
from sagan.viewing.records import MOST_WEIGHTS, encode, record_tag
from tests.helpers.attention_kinds import CASES, build, images, open_gate
from tests.helpers.attention_logs import damaged_records, decode, matrix, view_of
from tests.helpers.pages import ROOT

SMALL = [case for case in CASES if case.maps]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_the_maps_of_every_kind_come_back(case):
    layer = open_gate(build(case.kind, case.options).eval())
    with capture_maps(layer) as captured:
        layer(images())
    view = view_of(*captured[""])
    blobs = encode(view, case.kind)
    header = read_header(blobs[0], len(blobs))
    assert [entry["kind"] for entry in header["maps"]] == list(case.maps) and header["kind"] == case.kind
    for image in range(2):
        for index, (m, entry) in enumerate(zip(view.maps, header["maps"], strict=True)):
            weights, error = decode(blobs, image, index)
            assert (np.abs(weights - m.weights[image].numpy().reshape(weights.shape)) <= error).all()
            positions = {"channel gate": (1, m.weights.shape[1])}.get(m.kind, m.key_size or m.weights.shape[2:])
            assert entry["keys"] == entry["whole_keys"] == list(positions)
            content = read_map(blobs[blob_of_image(header, image) + 1 + index], entry)
            assert len(content) == weights.size + 8 * len(weights)
        assert read_image(blobs[blob_of_image(header, image)]).startswith(b"\x89PNG")


def test_the_header_says_what_the_page_shows():
    m = matrix(heads=2)
    view = replace(view_of(m), class_names=("cat",), change=torch.tensor([0.5, float("nan")]))
    blobs = encode(view, "multihead")
    header = read_header(blobs[0], len(blobs))
    about = {k: v for k, v in header.items() if k != "maps"}
    assert about == {
        "network": "generator",
        "layer": "blocks.1.attention",
        "source": "generated",
        "kind": "multihead",
        "gamma": 0.25,
        "change": [0.5, None],
        "labels": ["cat", "class 1"],
        "images": 2,
        "without": True,
        "size": [16, 16],
    }
    entry, w = header["maps"][0], m.weights.double()
    entropy = -(w * w.log()).sum(-1).mean((1, 2)) / np.log(4)
    torch.testing.assert_close(torch.tensor(entry["entropy"], dtype=torch.float64), entropy, rtol=1e-5, atol=0)
    assert entry["maximum"] == m.weights.amax((1, 2, 3)).tolist() and entry["groups"] == 2
    assert entry["minimum"] == m.weights.amin((1, 2, 3)).tolist()
    assert record_tag(view_of(m)) == "attention-maps/generator/blocks.1.attention/generated"


def test_older_records_say_nothing_of_the_change_and_hold_no_images_without_the_layer():
    blobs = encode(view_of(matrix(), network="discriminator"), "sagan")
    header = {name: value for name, value in json.loads(blobs[0]).items() if name not in ("change", "without")}
    found = read_header(json.dumps(header).encode(), len(blobs))
    assert found["change"] is None and found["without"] is False


def test_the_images_without_the_layer_come_last():
    view = view_of(matrix())
    blobs = encode(view, "sagan")
    header = read_header(blobs[0], len(blobs))
    for image in range(2):
        picture = np.asarray(Image.open(io.BytesIO(read_image(blobs[blob_without(header, image)]))))
        assert np.array_equal(picture, view.without[image].permute(1, 2, 0).numpy())


def test_large_grids_are_halved_and_rows_still_sum_to_1():
    """64x64 queries are averaged to 32x32, 32x32 keys added up to 16x16: as average pooling has it."""
    m = matrix(queries=(64, 64), keys=(32, 32), images=1)
    blobs = encode(view_of(m, images=1), "sagan")
    entry = json.loads(blobs[0])["maps"][0]
    assert (entry["queries"], entry["keys"]) == ([32, 32], [16, 16])
    assert (entry["whole_queries"], entry["whole_keys"]) == ([64, 64], [32, 32])
    queries = F.avg_pool2d(m.weights[0, 0].T.unflatten(1, (64, 64)), 2).flatten(1).T  # (1024, 1024)
    both = 4 * F.avg_pool2d(queries.unflatten(1, (32, 32)), 2).flatten(1)
    weights, error = decode(blobs, 0, 0)
    assert (np.abs(weights - both.numpy()) <= error).all()
    np.testing.assert_allclose(weights.sum(1), 1, atol=0.02)


def test_large_gates_and_windows_are_halved_too():
    random = torch.Generator().manual_seed(0)
    gate = AttentionMap("full gate", torch.rand(1, 256, 64, 64, generator=random), (64, 64), (64, 64))
    small, _ = decode(encode(view_of(gate, images=1), "coordinate"), 0, 0)
    expected = F.avg_pool2d(gate.weights, 2).flatten(2)[0]
    assert np.abs(small - expected.numpy()).max() < 1 / 400
    windows = AttentionMap("windowed matrix", torch.rand(1, 4, 256, 256, generator=random), (32, 32), (16, 16))
    whole = AttentionMap("matrix", torch.rand(1, 1, 1024, 1024, generator=random), (32, 32), (32, 32))
    maps = json.loads(encode(view_of(whole, windows, images=1), "pyramid-oc")[0])["maps"]
    sizes = [e["groups"] * np.prod(e["queries"]) * np.prod(e["keys"]) for e in maps]
    assert sum(sizes) <= MOST_WEIGHTS and maps[1]["groups"] == 4 and maps[1]["whole_keys"] == [16, 16]


def test_a_record_stays_under_a_megabyte():
    """Logits of every strength, at the largest size that is stored whole."""
    sizes = []
    for strength in (0.01, 0.3, 1, 3, 10):
        m = matrix(queries=(32, 32), keys=(16, 16), images=4)
        logits = torch.randn(m.weights.shape, generator=torch.Generator().manual_seed(1))
        m = AttentionMap("matrix", (strength * logits).softmax(-1), (32, 32), (16, 16), True)
        sizes.append(sum(map(len, encode(view_of(m, images=4), "sagan"))))
    assert max(sizes) < 1_000_000 and min(sizes) > 10_000


def test_large_pictures_are_halved():
    view = replace(view_of(matrix(images=1), images=1), images=torch.full((1, 3, 512, 256), 77, dtype=torch.uint8))
    picture = Image.open(io.BytesIO(encode(view, "sagan")[1]))
    assert picture.size == (32, 64) and picture.getpixel((3, 5)) == (77, 77, 77)


def test_weights_of_both_signs_and_weights_that_are_no_numbers():
    random = torch.Generator().manual_seed(0)
    w = torch.randn(1, 1, 16, 4, generator=random)
    signed, error = decode(encode(view_of(AttentionMap("matrix", w, (4, 4), (2, 2)), images=1), "non-local"), 0, 0)
    assert (np.abs(signed - w[0, 0].numpy()) <= error).all()
    w[0, 0, 3, 1] = float("nan")
    blobs = encode(view_of(AttentionMap("matrix", w, (4, 4), (2, 2)), images=1, gamma=float("inf")), "non-local")
    header = read_header(blobs[0], len(blobs))
    assert header["gamma"] == "NaN" and header["maps"][0]["maximum"] == [None]
    again, _ = decode(blobs, 0, 0)
    assert np.isnan(again[3]).all() and np.isfinite(np.delete(again, 3, 0)).all()


@pytest.mark.parametrize("blobs", [pytest.param(b, id=name) for name, b in damaged_records().items()])
def test_a_damaged_record_is_refused(blobs):
    with pytest.raises(BadRecord):
        if not blobs:
            raise BadRecord("without header, there is nothing to read")
        header = read_header(blobs[0], len(blobs))
        for image in range(header["images"]):
            read_image(blobs[blob_of_image(header, image)])
            read_map(blobs[blob_of_image(header, image) + 1], header["maps"][0])


def test_the_committed_page_has_the_current_view():
    """If this fails, samples/README.md has the command that remakes it; the records in it need not change."""
    text = (ROOT / "samples/attention.html").read_text(encoding="utf-8")
    (title,) = re.findall("<title>(.*)</title>", text)
    (records,) = re.findall('id="records">(.*)</script>', text)
    assert text == _html(html.unescape(title), json.loads(records))
