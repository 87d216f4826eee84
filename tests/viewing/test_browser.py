"""The tab in a real browser: the weights that it shows are those that were recorded, and nothing breaks it."""

import json
import math
import threading

import numpy as np
import pytest
import torch
from werkzeug.serving import make_server

from sagan.attention import AttentionMap
from sagan.viewing.plugin import NAME
from sagan.viewing.records import encode, record_tag
from tests.helpers.attention_logs import HOSTILE, damaged_records, good_view, matrix, view_of, write_run
from tests.helpers.attention_pages import Page, assert_shown, captured
from tests.helpers.chromium import CHROMIUM, Chromium
from tests.helpers.providers import loaded, web_application

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: none on PATH, and CHROMIUM names none"),
]

SIZES = {"heads": 2, "queries": (4, 8), "keys": (2, 4)}
FIRST = {step: good_view(step, **SIZES) for step in (10, 20)}
GATES = [
    AttentionMap("channel gate", torch.rand(2, 6, generator=torch.Generator().manual_seed(0)), (4, 4)),
    AttentionMap("spatial gate", torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)), (4, 4)),
]
WINDOWS = AttentionMap("windowed matrix", matrix(heads=4, queries=(2, 2)).weights, (4, 4), (2, 2), True)
TAG = record_tag(FIRST[10])
REDUCED = view_of(matrix(queries=(2, 2), keys=(8, 8)), layer="blocks.2.reduced")
BROKEN = view_of(
    AttentionMap("matrix", torch.full((2, 1, 16, 4), math.nan), (4, 4), (2, 2), distribution=True),
    AttentionMap("channel gate", torch.full((2, 6), math.nan), (4, 4)),
    layer="blocks.3.broken",
    gamma=math.nan,
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """TensorBoard below a path prefix, over three runs, of which the hostile one is the newest."""
    root = tmp_path_factory.mktemp("logs")
    write_run(root / "first", [(TAG, step, encode(view, "sagan")) for step, view in FIRST.items()])
    gates, reduced = encode(view_of(*GATES), "cbam"), encode(REDUCED, "sagan", most_weights=64)
    others = [(record_tag(REDUCED), 10, reduced), (record_tag(BROKEN), 10, encode(BROKEN, "sagan"))]
    write_run(root / "gates", [(TAG, 10, gates), *others])
    broken = damaged_records()["a map cut off"]
    write_run(root / HOSTILE, [(TAG, 1, encode(view_of(WINDOWS), "pyramid-oc")), (TAG, 2, broken)])
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


@pytest.fixture
def page(browser, address):
    page = Page(browser, address)
    yield page
    assert [e for e in browser.errors if "favicon" not in json.dumps(e) and "422" not in json.dumps(e)] == []
    origin = address.split("/tb/")[0] + "/tb/"
    assert all(url.startswith((origin, "about:", "blob:")) or url.endswith("/favicon.ico") for url in browser.requests)


def row(view, image, query, heads=(0, 1)):
    """Return a query's row of a view of two heads, on the grid of its keys."""
    weights, error = captured(view, image, list(heads))
    return weights[query].reshape(view.maps[0].key_size), error[query]


def test_the_weights_shown_are_those_captured(page):
    page.choose(0, "run", "first")
    page.state(0, run="first", step=20, state="ready", strip="ready")
    page.browser.mouse("mouseMoved", *page.place(1.5 / 4, 2.5 / 8))
    page.state(0, query="1,2", pinned="false")
    assert_shown(page, row(FIRST[20], 0, 1 * 8 + 2))

    page.browser.click(*page.place(3.5 / 4, 6.5 / 8))
    page.state(0, query="3,6", pinned="true")
    page.browser.mouse("mouseMoved", *page.place(0.5 / 4, 0.5 / 8))
    assert_shown(page, row(FIRST[20], 0, 3 * 8 + 6))

    for key in ("ArrowUp", "ArrowRight", "ArrowRight"):
        page.browser.press(key)
    page.state(0, query="2,7", pinned="true")
    page.browser.evaluate("document.querySelectorAll('.heads button')[2].click()")
    page.browser.evaluate("document.querySelectorAll('.images button')[1].click()")
    page.choose(0, "step", 0)
    page.state(0, step=10, image=1, group=1, state="ready")
    assert_shown(page, row(FIRST[10], 1, 2 * 8 + 7, heads=[1]))

    page.browser.press("Escape")
    page.state(0, pinned="false")
    assert page.text(0, "[data-number=gamma]") == "0.250" and page.text(0, "[data-number=change]") == "30.0 %"
    assert page.text(0, "[data-number=entropy]") == f"{entropy_of(FIRST[10], 1):.4f}"
    assert page.text(0, ".idle") == ""
    page.browser.evaluate("document.querySelectorAll('.images button')[0].click()")
    page.state(0, image=0, state="ready")
    assert page.text(0, ".idle").startswith("Hardly in use: the layer changes its input by 0.500 %")


def entropy_of(view, image):
    w = view.maps[0].weights[image].double()
    return float(-(w * w.log()).sum(-1).mean() / np.log(w.shape[-1]))


def test_gates_beside_a_matrix_with_linked_image_and_query(page):
    page.choose(0, "run", "first")
    page.state(0, run="first", state="ready")
    page.press("Compare")
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


def open_layer(page, view):
    page.choose(0, "run", "gates")
    page.state(0, run="gates", state="ready")
    page.choose(0, "layer", record_tag(view))
    page.state(0, tag=record_tag(view), state="ready")


def test_numbers_of_a_reduced_map_say_which_are_of_single_keys(page):
    open_layer(page, REDUCED)
    named = f"{page.panel(0)}.querySelector('[data-number=maximum]').parentNode.textContent"
    largest = REDUCED.maps[0].weights[0].max().item()
    assert page.browser.evaluate(named) == f"Largest, all queries, single keys{largest:#.3g}"
    assert page.text(0, "p.quiet") == "Each cell adds up 2 × 2 neighbours."
    page.choose(0, "layer", TAG)
    page.state(0, tag=TAG, state="ready")
    page.choose(0, "run", "first")
    page.state(0, run="first", state="ready")
    assert page.browser.evaluate(named).startswith("Largest, all queries0.")


def test_what_is_not_a_number_is_called_so(page):
    open_layer(page, BROKEN)
    ids = ("gamma", "entropy", "maximum", "query-maximum")
    assert {page.text(0, f"[data-number={name}]") for name in ids} == {"not a number"}
    assert page.text(0, "[data-number=region]") == "none: not a number"
    assert page.text(0, ".readout") == "Not a number"
    page.choose(0, "map", 1)
    page.state(0, map=1, state="ready")
    assert page.text(0, "[data-number=mean]") == "not a number" and page.text(0, ".readout") == "Not a number"


def test_large_numbers_have_no_exponent(page):
    page.choose(0, "run", "first")
    page.state(0, run="first", step=20, image=0, state="ready")
    mean, largest = (float(value) for value in page.data("effect").split(","))
    assert largest >= 100  # else it does not test it
    assert f"differ by {mean:.0f} of 255, at most {largest:.0f}" in page.text(0, ".effect")
    number = "import('./dom.js').then(({ number }) => [99.6, 255, 1234.5, -1e5, 0.25, 2e7].map((v) => number(v, 2)))"
    shown = page.browser.evaluate(number)
    assert shown == ["100", "255", "1235", "−100000", "0.25", "2.0e+7"]


def test_only_maps_with_queries_have_a_row_of_pinned_ones(page):
    page.choose(0, "run", "first")
    page.state(0, run="first", state="ready")
    page.browser.click(*page.place(0.6, 0.3))
    page.browser.click(*page.place(0.2, 0.8), modifiers=8)  # Shift
    hidden = f"{page.panel(0)}.querySelector('.pins-section').hidden"
    page.browser.wait(f"!{hidden}")
    page.choose(0, "run", "gates")
    page.state(0, run="gates", map=0, state="ready")
    assert page.browser.evaluate(hidden)
    page.choose(0, "run", "first")
    page.state(0, run="first", state="ready")
    page.browser.wait(f"!{hidden}")


def test_windows_hostile_names_and_a_damaged_step(page):
    page.state(0, state="error")
    assert page.browser.evaluate(f"{page.panel(0)}.querySelector('.run select').value") == HOSTILE
    told = page.text(0, ".notice")
    assert told == "This record cannot be read: the map is cut off, or more follows it."
    page.choose(0, "step", 0)
    page.state(0, step=1, state="ready", strip="ready")
    page.browser.click(*page.place(0.9, 0.4))
    page.state(0, query="3,1")
    window = np.full((4, 4), np.nan)
    window[2:, :2] = WINDOWS.weights[0, 2, 3].reshape(2, 2)  # window 2, its last query
    assert_shown(page, (window, np.nanmax(window) / 510))
    page.set("look", "key")  # who looks at row 3, column 1: the queries of window 2, at its key 3
    page.state(0, look="key")
    window[2:, :2] = WINDOWS.weights[0, 2, :, 3].reshape(2, 2)
    assert_shown(page, (window, WINDOWS.weights[0, 2].max().item() / 510))
    page.set("look", "all")
    page.state(0, look="all")
    everywhere = WINDOWS.weights[0].mean(1).reshape(2, 2, 2, 2).transpose(1, 2).reshape(4, 4).numpy()
    assert_shown(page, (everywhere, WINDOWS.weights[0].max().item() / 510))
    assert page.browser.evaluate("document.title") != "broken"
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


def run_names(page):
    return page.browser.evaluate("[...document.querySelectorAll('.run select option')].map((o) => o.value)")


def test_the_newest_run_comes_first_and_runs_are_filtered(page):
    assert run_names(page) == [HOSTILE, "gates", "first"]
    page.browser.evaluate("(f => (f.value = 'F.RST', f.oninput()))(document.querySelector('header .filter input'))")
    page.state(0, run="first", state="ready")
    assert run_names(page) == ["first"]
    page.browser.evaluate("(f => (f.value = '(', f.oninput()))(document.querySelector('header .filter input'))")
    assert run_names(page) == [HOSTILE, "gates", "first"]
    assert page.browser.evaluate("document.querySelector('header .filter input').validity.valid") is False


HOLD_BACK = """
(() => {
  const ask = window.fetch;
  window.fetch = async (url, ...rest) => {
    if (!window.release && String(url).includes("/steps?")) await new Promise((go) => (window.release = go));
    return ask(url, ...rest);
  };
})()"""


def test_a_choice_while_the_steps_of_another_run_are_unknown_asks_for_no_step_of_the_old_one(page):
    page.choose(0, "run", "first")
    page.state(0, run="first", step=20, image=0, state="ready", strip="ready")
    page.browser.evaluate(HOLD_BACK)
    page.choose(0, "run", "gates")
    page.browser.wait("window.release")
    page.browser.evaluate("document.querySelectorAll('.images button')[1].click()")
    page.browser.evaluate("new Promise((done) => setTimeout(done, 200))")
    page.browser.evaluate("window.release()")
    page.state(0, run="gates", step=10, image=1, state="ready", strip="ready")
    np.testing.assert_allclose(page.weights(), GATES[0].weights[1][None], atol=3e-3)
    assert not any("run=gates" in url and "step=20" in url for url in page.browser.requests)


def test_pins_survive_a_change_of_run_and_two_runs_are_subtracted(page):
    page.choose(0, "run", "first")
    page.state(0, run="first", state="ready", strip="ready")
    page.browser.click(*page.place(0.6, 0.3))
    page.state(0, query="2,2", pinned="true")
    page.choose(0, "run", "gates")
    page.state(0, run="gates", state="ready", pinned="true")
    page.choose(0, "run", "first")
    page.state(0, run="first", state="ready", query="2,2", pinned="true")
    page.press("Compare")
    page.browser.wait("document.querySelectorAll('.panel').length === 2")
    page.choose(1, "run", "first")
    page.state(1, run="first", step=20, state="ready")
    page.browser.evaluate("document.querySelector('header .check input').click()")  # steps of their own
    page.choose(1, "step", 0)
    page.state(1, step=10, state="ready"), page.state(0, step=20)
    page.press_check("Difference")
    page.state(1, difference="true"), page.state(0, difference="false")
    (later, error), (before, other) = (row(FIRST[step], 0, 2 * 8 + 2) for step in (20, 10))
    assert_shown(page, (before - later, error + other + 5e-7), i=1)
    assert float(page.data("from", 1)) == -float(page.data("to", 1))


def test_light_and_dark(page):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.browser.evaluate(ground)
    page.browser.prefer(dark=True)
    page.browser.wait("document.documentElement.dataset.theme === 'dark'")
    assert page.browser.evaluate(ground) != light
    page.browser.prefer(dark=False)
