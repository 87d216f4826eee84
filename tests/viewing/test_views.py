"""The interactive view, in TensorBoard and in a page of its own: every switch, the keyboard, widths, what is saved."""

import http.server
import json
import re
import threading
import xml.etree.ElementTree as ET
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from werkzeug.serving import make_server

from sagan.viewing.page import Shown, page
from sagan.viewing.plugin import NAME
from sagan.viewing.records import encode, record_tag
from sagan.viewing.rows import most_attended
from sagan.viewing.scales import range_of
from tests.helpers.attention_logs import good_view, write_run
from tests.helpers.attention_pages import Page, assert_shown, captured
from tests.helpers.chromium import CHROMIUM, Chromium
from tests.helpers.providers import loaded, web_application

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: none on PATH, and CHROMIUM names none"),
]

HEADS, QUERIES, KEYS = 3, (8, 8), (4, 4)
SIZES = {"heads": HEADS, "queries": QUERIES, "keys": KEYS}
VIEWS = {step: good_view(step, **SIZES) for step in (10, 20, 30)}
REAL = {step: good_view(step + 1, "discriminator", "real", queries=(4, 4), keys=(2, 2)) for step in VIEWS}
LAYERS = [record_tag(VIEWS[10]), record_tag(REAL[10])]
KINDS = {"generator": "multihead", "discriminator": "sagan"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    shown = [Shown(step, [VIEWS[step], REAL[step]], KINDS) for step in VIEWS]
    file = tmp_path_factory.mktemp("site") / "maps.html"
    file.write_text(page("</script><b>run", shown))
    return file


@pytest.fixture(scope="module", params=["tab", "page"])
def address(request, tmp_path_factory, page_file):
    if request.param == "page":
        handler = partial(Quiet, directory=page_file.parent)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/maps.html"
        server.shutdown()
        return
    root = tmp_path_factory.mktemp("logs")
    records = [(record_tag(v), step, encode(v, "multihead")) for views in (VIEWS, REAL) for step, v in views.items()]
    write_run(root / "run", records)
    with loaded("python", root) as provider:
        server = make_server("127.0.0.1", 0, web_application(provider), threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/data/plugin_entry.html?name={NAME}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def view(browser, address):
    view = Page(browser, address)
    view.state(0, state="ready", strip="ready", sheet="ready")
    yield view
    assert [e for e in browser.errors if "favicon" not in json.dumps(e)] == []
    if address.endswith("maps.html"):
        allowed = (address, "about:blank", "data:,", "blob:")
        assert [url for url in browser.requests if not url.startswith(allowed)] == []


def matrix(step=30, image=0, heads=(0, 1, 2)):
    return captured(VIEWS[step], image, list(heads))


def pin(view, row, column, **more):
    view.browser.click(*view.place((row + 0.5) / QUERIES[0], (column + 0.5) / QUERIES[1]), **more)
    view.state(0, query=f"{row},{column}", pinned="true")


def test_the_query_moves_by_keyboard_and_shows_the_numbers_of_its_row(view):
    view.browser.evaluate("document.querySelector('.picture > canvas').focus()")
    view.browser.press("Enter")
    view.state(0, query="3,3", pinned="true", step=30)
    weights, error = matrix()
    assert_shown(view, (weights[27].reshape(KEYS), error[27]))
    before = view.weights()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        view.browser.press(key)
    view.state(0, query="4,5")
    assert_shown(view, (weights[37].reshape(KEYS), error[37]))
    assert not np.array_equal(view.weights(), before)
    assert "query row 4, column 5 (pixels y 8–9, x 10–11)" in view.text(0, ".picture figcaption")


def test_who_looks_here_and_what_all_queries_look_at(view):
    weights, error = matrix()
    pin(view, 5, 2)
    view.set("look", "key")
    view.state(0, look="key")
    key = (5 // 2) * 4 + 2 // 2  # the key that covers the query's place
    assert_shown(view, (weights[:, key].reshape(QUERIES), error.max()))
    view.set("look", "all")
    view.state(0, look="all")
    assert_shown(view, (weights.mean(0).reshape(KEYS), error.max()))
    assert float(view.text(0, "[data-number=times]")) == pytest.approx(weights.mean(0).max() * 16, rel=0.02)
    view.set("look", "query")
    view.state(0, look="query")
    view.browser.send("Input.dispatchKeyEvent", type="keyDown", key="r", code="KeyR")
    view.state(0, look="key")
    view.browser.send("Input.dispatchKeyEvent", type="keyUp", key="r", code="KeyR")
    view.state(0, look="query")


@pytest.mark.parametrize("scale", ["zero", "stretch"])
def test_scales_are_those_of_the_pictures(view, scale):
    pin(view, 1, 6)
    view.set("scale", scale)
    weights, _ = matrix()
    row = torch.from_numpy(weights[14].reshape(KEYS))
    expected = range_of(row, VIEWS[30].maps[0], scale, cells=16)
    view.browser.wait(f"Math.abs({view.panel(0)}.dataset.from - {expected.low}) < 1e-3")
    assert float(view.data("to")) == pytest.approx(expected.high, abs=2e-3)
    assert view.text(0, ".own-grid > .note") == ("STRETCHED to the map's own range" if scale == "stretch" else "")


def test_one_scale_for_all_that_is_shown(view):
    pin(view, 1, 6)
    view.set("scale", "shared")
    note = f"{view.panel(0)}.querySelector('.own-grid > .note').textContent"
    view.browser.wait(f"{note} === 'one scale for all panels, heads and steps'")
    heads = VIEWS[30].maps[0].weights[0, :, 14]
    steps = [matrix(step)[0][14].max() for step in VIEWS]
    assert float(view.data("to")) == pytest.approx(max(heads.max().item(), *steps, 4 / 16), abs=2e-3)


@pytest.mark.parametrize("share", [50, 80, 100])
def test_the_outline_is_that_of_the_pictures(view, share):
    pin(view, 6, 1)
    view.set("outline", share)
    weights, _ = matrix()
    row = torch.from_numpy(weights[49].reshape(KEYS))
    region = most_attended(row, torch.ones_like(row, dtype=torch.bool), share / 100)
    expected = "".join(str(int(cell)) for cell in region.flatten())
    view.state(0, region=expected)
    assert view.text(0, "[data-number=region]") == f"{region.sum()} of 16 cells"


def test_several_pins_that_survive_steps_and_layers(view):
    pin(view, 1, 1)
    view.browser.evaluate("document.querySelector('.picture > canvas').focus()")
    view.browser.click(*view.place(6.5 / 8, 2.5 / 8), modifiers=8)  # shift
    view.state(0, query="6,2")
    view.browser.wait(f"{view.panel(0)}.querySelectorAll('.pins button').length === 2")
    view.browser.press("p")
    view.browser.press("ArrowUp")
    view.state(0, query="5,2")
    view.browser.wait(f"{view.panel(0)}.querySelectorAll('.pins button').length === 3")
    view.browser.evaluate("document.querySelectorAll('.pins button')[0].click()")
    view.state(0, query="1,1")
    view.browser.press(","), view.state(0, step=20, query="1,1", state="ready")
    view.choose(0, "layer", LAYERS[1])
    view.state(0, tag=LAYERS[1], query="0,0", pinned="true", state="ready")
    view.choose(0, "layer", LAYERS[0])
    view.state(0, tag=LAYERS[0], query="1,1", state="ready")
    view.browser.press("n"), view.state(0, query="6,2")
    weights, error = matrix(20)
    assert_shown(view, (weights[50].reshape(KEYS), error[50]))
    view.browser.press("Escape"), view.state(0, pinned="false", query="6,2")
    view.browser.wait(f"{view.panel(0)}.querySelectorAll('.pins button').length === 2")


def test_an_address_reopens_the_view(view, browser):
    view.choose(0, "step", 1), view.state(0, step=20, state="ready")
    pin(view, 2, 5)
    view.browser.evaluate("document.querySelectorAll('.images button')[1].click()")
    view.state(0, image=1, state="ready")
    view.browser.evaluate("document.querySelectorAll('.heads button')[3].click()")
    view.set("scale", "stretch"), view.set("outline", 70), view.set("look", "key")
    view.press("Compare")
    view.choose(1, "layer", LAYERS[1])
    view.state(1, tag=LAYERS[1], state="ready")
    written = [f"layer2={LAYERS[1]}", "outline=0.7"]  # the comparison has written a layer2 of its own before
    browser.wait(" && ".join(f"decodeURIComponent(location.hash).includes('{words}')" for words in written))
    wanted = [{name: view.data(name, i) for name in ("tag", "step", "image", "query", "group", "look")} for i in (0, 1)]
    assert wanted[0] == {"tag": LAYERS[0], "step": "20", "image": "1", "query": "2,5", "group": "2", "look": "key"}
    again = Page(browser, browser.evaluate("location.href"))
    for i in (0, 1):
        again.state(i, state="ready", **wanted[i])
    assert browser.evaluate("document.querySelector('header .scale select').value") == "stretch"
    assert browser.evaluate("document.querySelector('header .outline input').value") == "70"


def test_an_address_that_makes_no_sense_is_left_out(browser, address):
    prefix = "" if address.endswith("maps.html") else "p.sagan_attention."
    bad = {"run": "<b>", "layer": "x", "step": "-1", "head": "99", "image": "7", "pins": "2,2;x;0.1,0.1", "scale": "?",
           "outline": "NaN", "look": "%E0%A4%A", "active": "5"}  # fmt: skip
    view = Page(browser, f"{address}#{'&'.join(f'{prefix}{name}={value}' for name, value in bad.items())}")
    view.state(0, state="ready", step=30, image=1, group=-1, query="0,0", pinned="true", look="query")
    assert [error for error in browser.errors if "favicon" not in json.dumps(error)] == []


def test_all_layers_and_heads_at_a_glance(view):
    cells = f"{view.panel(0)}.querySelectorAll('.sheet button')"
    assert view.browser.evaluate(f"{cells}.length") == (1 + HEADS) + 1
    view.browser.evaluate(f"{cells}[4].click()")
    view.state(0, tag=LAYERS[1], state="ready")
    view.browser.evaluate(f"{cells}[2].click()")
    view.state(0, tag=LAYERS[0], group=1, state="ready")


def test_what_the_image_would_be_without_the_layer(view):
    image, without = (t[1].double().numpy() for t in (VIEWS[30].images, VIEWS[30].without))
    apart = np.abs(image - without).mean(0)
    view.browser.evaluate("document.querySelectorAll('.images button')[1].click()")
    view.state(0, image=1, state="ready", effect=f"{apart.mean():.4f},{apart.max():.4f}")
    assert view.text(0, ".effect figure:last-child").startswith("differ by ")
    view.choose(0, "layer", LAYERS[1])  # of D, which makes no image
    view.state(0, tag=LAYERS[1], state="ready", effect="")
    assert view.browser.evaluate(f"{view.panel(0)}.querySelector('.effect-section').hidden")


def test_the_keyboard_does_all_and_a_sheet_says_so(view):
    for key, state in (
        ("h", {"group": 0}),
        ("i", {"image": 1}),
        (",", {"step": 20}),
        (".", {"step": 30}),
        ("l", {"tag": LAYERS[1]}),
        ("w", {"look": "key"}),
    ):
        view.browser.press(key)
        view.state(0, state="ready", **state)
    view.browser.press("s")
    view.browser.wait("document.querySelector('header .scale select').value === 'shared'")
    view.browser.press("+")
    view.browser.wait("document.querySelector('header .outline input').value === '55'")
    view.browser.press("b", up=False)
    view.browser.wait(f"{view.panel(0)}.classList.contains('bare')")
    view.browser.press("b", down=False)
    view.browser.wait(f"!{view.panel(0)}.classList.contains('bare')")
    view.browser.press("c")
    view.browser.wait("document.querySelectorAll('.panel').length === 2")
    view.browser.press("?")
    view.browser.wait("document.querySelector('dialog.help').open")
    told = view.browser.evaluate("document.querySelector('dialog.help').textContent")
    app = view.browser.evaluate("[...document.querySelectorAll('dialog.help kbd')].map((k) => k.textContent)")
    assert {"p", "n", "r", "w", "b", "i", "h", "l", "s", "a", "c", "d", "?"} <= set(app) and "Arrow keys" in told


def test_the_picture_is_saved(view, browser, tmp_path):
    browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    pin(view, 2, 2)
    view.press("PNG"), view.press("SVG")
    files = browser.downloaded(tmp_path, 2)
    png, svg = (next(f for f in files if f.suffix == suffix) for suffix in (".png", ".svg"))
    image = Image.open(png)
    assert min(image.size) > 700 and np.asarray(image.convert("RGB")).std() > 20
    tree = ET.parse(svg).getroot()
    tags = [node.tag.rpartition("}")[2] for node in tree.iter()]
    words = " ".join(node.text or "" for node in tree.iter())
    assert tags.count("image") >= 3 + 1 + HEADS + 3 and "script" not in tags
    assert "query row 2, column 2" in words and "step 30" in words
    facts = [node.text for node in tree.iter() if (node.text or "").startswith(("Gain", "Entropy", "Largest", "Outl"))]
    assert facts and max(map(len, facts)) < 140  # broken into lines that fit


BOXES = """[...document.querySelectorAll('.panel')].map((panel) => ['.picture > canvas', '.own-grid > canvas', '.heads',
    '.strip'].map((name) => panel.querySelector(name).getBoundingClientRect().toJSON()))"""


@pytest.mark.parametrize("width, height, panels", [(1280, 900, 1), (1000, 900, 2), (1920, 1080, 2)])
def test_what_belongs_together_is_seen_together(view, browser, width, height, panels):
    browser.size(width, height)
    try:
        if panels == 2:
            view.press("Compare")
            view.state(1, state="ready", strip="ready")
        browser.evaluate("scrollTo(0, 0)")
        boxes = browser.evaluate(BOXES)
        assert len(boxes) == panels
        for panel in boxes:
            assert all(box["bottom"] <= height and box["right"] <= width and box["width"] > 50 for box in panel)
        if panels == 2:
            assert boxes[0][0]["y"] == boxes[1][0]["y"] and boxes[0][0]["right"] < boxes[1][0]["x"]
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
    finally:
        browser.size(1280, 1000)


def test_a_page_holds_all_that_it_needs(browser, page_file, tmp_path):
    """From disk, with a policy that allows nothing but its own script and style."""
    text = page_file.read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    assert "<b>run" not in text and len(text) < 5_000_000
    view = Page(browser, page_file.as_uri())
    view.state(0, state="ready", strip="ready", sheet="ready", run="</script><b>run")
    assert browser.errors == [] and set(browser.requests) <= {page_file.as_uri(), "about:blank", "data:,"}
    refused = browser.evaluate("fetch('https://example.org/').then(() => 'answered', () => 'refused')")
    assert refused == "refused" and "Content Security Policy" in json.dumps(browser.errors)
    browser.errors.clear()
