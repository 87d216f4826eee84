"""The attention tab, or a page of its own, in Chromium: what it shows, and how its controls are used."""

import json

import numpy as np


class Page:
    """The tab, or a page of its own, freshly opened, by its first panel or its second."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address
        browser.requests.clear(), browser.errors.clear()
        browser.open("about:blank")  # an address that differs in its hash alone would not be loaded again
        browser.wait("location.href === 'about:blank'")
        browser.open(address)
        browser.wait("document.documentElement?.dataset.state === 'ready'")
        browser.wait(f"['ready', 'error'].includes({self.panel(0)}.dataset.state)")

    def panel(self, i):
        return f"document.querySelectorAll('.panel')[{i}]"

    def state(self, i, **values):
        """Wait until a panel says all of this of itself."""
        for name, value in values.items():
            self.browser.wait(f"{self.panel(i)}?.dataset.{name} === {json.dumps(str(value))}")

    def choose(self, i, field, value):
        control = f"{self.panel(i)}.querySelector('.{field} select, .{field} input')"
        event = "input" if field in ("step", "channel") else "change"
        self.browser.evaluate(
            f"(({control}).value = {json.dumps(str(value))}, ({control}).dispatchEvent(new Event('{event}')))"
        )

    def set(self, control, value):
        """Change a control above the panels."""
        node = f"document.querySelector('header .{control} select, header .{control} input')"
        self.browser.evaluate(
            f"({node}.value = {json.dumps(str(value))}, {node}.dispatchEvent(new Event('input')), "
            f"{node}.dispatchEvent(new Event('change')))"
        )

    def data(self, name, i=0):
        """Return what the panel says of itself in a data attribute."""
        return self.browser.evaluate(f"{self.panel(i)}.dataset.{name}")

    def press(self, text):
        """Click on a button above the panels."""
        buttons = "[...document.querySelectorAll('header button')]"
        self.browser.evaluate(f"{buttons}.find((b) => b.textContent.startsWith({json.dumps(text)})).click()")

    def press_check(self, text):
        """Click on a check box above the panels."""
        boxes = "[...document.querySelectorAll('header .check')]"
        self.browser.evaluate(f"{boxes}.find((b) => b.textContent === {json.dumps(text)}).firstChild.click()")

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
        """Return the numbers that the page shows, row by row of the grid; NaN where it shows none."""
        self.browser.evaluate(f"{self.panel(i)}.querySelector('.numbers').open = true")
        self.browser.wait(f"{self.panel(i)}.querySelector('pre').textContent")
        self.browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        lines = self.text(i, "pre").replace("–", "nan").splitlines()
        return np.array([[float(w) for w in line.split("\t")] for line in lines])


def assert_shown(page, weights, i=0):
    """Check that the page shows these weights (h, w) to half a quantisation step and the four digits that it prints.

    `weights` is a pair: the captured ones, and how far a stored one may be off.
    """
    captured, error = weights
    shown = page.weights(i)
    assert shown.shape == captured.shape and np.array_equal(np.isnan(shown), np.isnan(captured))
    assert (np.abs(shown - captured) <= error + 5.1e-4 * np.abs(captured) + 1e-7)[~np.isnan(captured)].all()


def captured(view, image, heads, index=0):
    """Return a view's matrix averaged over heads, float64 (queries, keys), and the largest error of each stored row."""
    w = view.maps[index].weights[image].double().numpy()[heads]
    rows = np.maximum(w.max(-1), 0) - np.minimum(w.min(-1), 0)
    return w.mean(0), rows.mean(0) / 510
