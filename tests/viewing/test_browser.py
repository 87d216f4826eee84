"""The tab in a real browser: the weights that it shows are those that were recorded, and nothing breaks it."""

import json
import threading

import numpy as np
import pytest
import torch
from werkzeug.serving import make_server

from sagan.attention import AttentionMap
from sagan.viewing.plugin import NAME
from sagan.viewing.records import encode
from tests.helpers.attention_logs import HOSTILE, damaged_records, decode, good_record, matrix, view_of, write_run
from tests.helpers.chromium import CHROMIUM, Chromium
from tests.helpers.providers import loaded, web_application

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: none on PATH, and CHROMIUM names none"),
]

TAG = "attention-maps/generator/blocks.1.attention/generated"
SIZES = {"heads": 2, "queries": (4, 8), "keys": (2, 4)}
FIRST = {step: good_record(step, **SIZES)[2] for step in (10, 20)}
GATES = [
    AttentionMap("channel gate", torch.rand(2, 6, generator=torch.Generator().manual_seed(0)), (4, 4)),
    AttentionMap("spatial gate", torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)), (4, 4)),
]
WINDOWS = AttentionMap("windowed matrix", matrix(heads=4, queries=(2, 2)).weights, (4, 4), (2, 2), True)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """TensorBoard below a path prefix, over three runs."""
    root = tmp_path_factory.mktemp("logs")
    write_run(root / "first", [(TAG, step, blobs) for step, blobs in FIRST.items()])
    write_run(root / "gates", [(TAG, 10, encode(view_of(*GATES), "cbam", []))])
    broken = damaged_records()["a map cut off"]
    write_run(root / HOSTILE, [(TAG, 1, encode(view_of(WINDOWS), "pyramid-oc", [HOSTILE])), (TAG, 2, broken)])
    with loaded("python", root) as provider:
        server = make_server("127.0.0.1", 0, web_application(provider, "/tb"), threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.port}/tb/data/plugin_entry.html?name={NAME}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


class Page:
    """The tab, freshly opened, by its first panel or its second."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.requests.clear(), browser.errors.clear()
        browser.open(address)
        browser.wait("document.documentElement?.dataset.state === 'ready'")
        browser.wait(f"['ready', 'error'].includes({self.panel(0)}.dataset.state)")

    def panel(self, i):
        return f"document.querySelectorAll('.panel')[{i}]"

    def state(self, i, **values):
        """Waits until a panel says all of this of itself."""
        for name, value in values.items():
            self.browser.wait(f"{self.panel(i)}?.dataset.{name} === {json.dumps(str(value))}")

    def choose(self, i, field, value):
        control = f"{self.panel(i)}.querySelector('.{field} select, .{field} input')"
        event = "input" if field in ("step", "channel") else "change"
        self.browser.evaluate(
            f"(({control}).value = {json.dumps(str(value))}, ({control}).dispatchEvent(new Event('{event}')))"
        )

    def text(self, i, selector):
        return self.browser.evaluate(f"{self.panel(i)}.querySelector({json.dumps(selector)}).textContent")

    def place(self, y, x, selector=".picture > canvas", i=0):
        """Pixel of the fractions y, x of an element."""
        box = self.browser.evaluate(
            f"(({self.panel(i)}.querySelector('{selector}').scrollIntoView({{block: 'center'}})), "
            f"{self.panel(i)}.querySelector('{selector}').getBoundingClientRect().toJSON())"
        )
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def weights(self, i=0):
        """The numbers that the page shows, row by row of the grid; NaN where it shows none."""
        self.browser.evaluate(f"{self.panel(i)}.querySelector('details').open = true")
        self.browser.wait(f"{self.panel(i)}.querySelector('pre').textContent")
        self.browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        lines = self.text(i, "pre").replace("–", "nan").splitlines()
        return np.array([[float(w) for w in line.split("\t")] for line in lines])


@pytest.fixture
def page(browser, address):
    page = Page(browser, address)
    yield page
    assert [e for e in browser.errors if "favicon" not in json.dumps(e) and "422" not in json.dumps(e)] == []
    origin = address.split("/tb/")[0] + "/tb/"
    assert all(url.startswith((origin, "about:")) or url.endswith("/favicon.ico") for url in browser.requests)


def assert_shown(page, blobs, image, query, heads=(0, 1), columns=4):
    """The page shows this query's row of the record, averaged over these heads."""
    weights, error = decode(blobs, image, 0)
    rows = [head * 32 + query for head in heads]
    expected = weights[rows].mean(0).reshape(-1, columns)
    np.testing.assert_allclose(page.weights(), expected, rtol=1e-3, atol=1e-6)
    assert error[rows].max() < 2e-3  # so it is the captured matrix, to that


def test_the_weights_shown_are_those_captured(page):
    page.choose(0, "run", "first")
    page.state(0, run="first", step=20, state="ready", strip="ready")
    page.browser.mouse("mouseMoved", *page.place(1.5 / 4, 2.5 / 8))
    page.state(0, query="1,2", pinned="false")
    assert_shown(page, FIRST[20], 0, 1 * 8 + 2)

    page.browser.click(*page.place(3.5 / 4, 6.5 / 8))
    page.state(0, query="3,6", pinned="true")
    page.browser.mouse("mouseMoved", *page.place(0.5 / 4, 0.5 / 8))
    assert_shown(page, FIRST[20], 0, 3 * 8 + 6)

    page.browser.press("ArrowUp"), page.browser.press("ArrowRight"), page.browser.press("ArrowRight")
    page.state(0, query="2,7", pinned="true")
    page.browser.evaluate("document.querySelectorAll('.heads button')[2].click()")
    page.browser.evaluate("document.querySelectorAll('.images button')[1].click()")
    page.choose(0, "step", 0)
    page.state(0, step=10, image=1, group=1, state="ready")
    assert_shown(page, FIRST[10], 1, 2 * 8 + 7, heads=[1])

    page.browser.press("Escape")
    page.state(0, pinned="false")
    assert page.text(0, "[data-number=gamma]") == "0.250"
    entropy = json.loads(FIRST[10][0])["maps"][0]["entropy"][1]
    assert page.text(0, "[data-number=entropy]") == f"{entropy:.4f}"


def test_gates_beside_a_matrix_with_linked_image_and_query(page):
    page.choose(0, "run", "first")
    page.state(0, run="first", state="ready")
    page.browser.evaluate("document.querySelector('header button').click()")
    page.browser.wait("document.querySelectorAll('.panel').length === 2")
    page.choose(1, "run", "gates")
    page.state(1, run="gates", map=0, state="ready")
    np.testing.assert_allclose(page.weights(1), GATES[0].weights[0][None], atol=3e-3)
    page.choose(1, "map", 1)
    page.state(1, map=1, state="ready")
    page.browser.evaluate("document.querySelectorAll('.panel')[0].querySelectorAll('.images button')[1].click()")
    page.state(1, image=1, state="ready")
    np.testing.assert_allclose(page.weights(1), GATES[1].weights[1, 0], atol=3e-3)
    page.browser.click(*page.place(0.99, 0.99))
    page.state(0, query="3,7"), page.state(1, query="3,3", pinned="true")
    page.choose(0, "step", 0)
    page.state(0, step=10), page.state(1, step=10)


def test_windows_hostile_names_and_a_damaged_step(page):
    page.state(0, state="error")
    assert page.browser.evaluate(f"{page.panel(0)}.querySelector('.run select').value") == HOSTILE
    told = page.text(0, ".notice")
    assert told == "This record cannot be read: the map is cut off, or more follows it."
    page.choose(0, "step", 0)
    page.state(0, step=1, state="ready", strip="ready")
    page.browser.click(*page.place(0.9, 0.4))
    page.state(0, query="3,1")
    shown, (weights, _) = page.weights(), decode(encode(view_of(WINDOWS), "", []), 0, 0)
    np.testing.assert_allclose(shown[2:, :2], weights[2 * 4 + 3].reshape(2, 2), rtol=1e-3)  # window 2, its last query
    assert np.isnan(shown[:2]).all() and np.isnan(shown[:, 2:]).all()
    assert HOSTILE in page.text(0, "figcaption") and page.browser.evaluate("document.title") != "broken"
    assert page.browser.evaluate("document.querySelectorAll('img').length") == 0


def test_choosing_keeps_the_focus_where_it_is(page):
    page.choose(0, "run", "first")
    page.state(0, run="first", image=0, state="ready", strip="ready")
    for selector, change in (
        (".images button:nth-child(2)", {"image": 1}),
        (".strip button", {"step": 10}),
        (".heads button:last-child", {"group": 1}),
    ):
        page.browser.evaluate(f"document.querySelector('{selector}').focus()")
        page.browser.evaluate("document.activeElement.click()")
        page.state(0, state="ready", strip="ready", **change)
        assert page.browser.evaluate(f"document.activeElement === document.querySelector('{selector}')")


def test_light_and_dark(page):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.browser.evaluate(ground)
    page.browser.prefer(dark=True)
    page.browser.wait("document.documentElement.dataset.theme === 'dark'")
    assert page.browser.evaluate(ground) != light
    page.browser.prefer(dark=False)
