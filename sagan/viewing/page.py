"""A standalone page with the interactive view of a run: one HTML file without network, server or TensorBoard."""

import base64
import hashlib
import html
import json
import math
from collections.abc import Sequence
from typing import NamedTuple

from sagan.viewing.bundle import STATIC, bundled
from sagan.viewing.capture import LayerView
from sagan.viewing.plugin.record import read_header
from sagan.viewing.records import MOST_WEIGHTS, encode, record_tag

MOST_WEIGHTS_OF_A_PAGE = 3_300_000  # a byte each before compression; base64 adds a third; pictures come on top

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<script type="application/json" id="records">{records}</script>
<script type="module">{script}</script>
</body>
</html>
"""


class Shown(NamedTuple):
    """The contents of a page for one checkpoint."""

    step: int
    views: list[LayerView]
    kinds: dict[str, str]
    """Attention kind of each network, by its name."""


def page(run: str, shown: Sequence[Shown]) -> str:
    """Return the HTML of a page about a run, with the maps of all views that have any.

    The maps are stored as in TensorBoard's log. If there are many, their grids are halved until the page is small
    enough, and the page says so.
    """
    views = [(s, view) for s in shown for view in s.views if view.maps]
    images = sum(len(view.images) for _, view in views)
    most = min(MOST_WEIGHTS, 2 ** int(math.log2(max(1, MOST_WEIGHTS_OF_A_PAGE / max(1, images)))))
    tags: dict[str, list[dict]] = {}
    for s, view in views:
        header, *blobs = encode(view, s.kinds[view.network], most_weights=most, level=9)
        tags.setdefault(record_tag(view), []).append(
            {
                "step": s.step,
                "wall_time": 0,
                "header": read_header(header, 1 + len(blobs)),
                "blobs": [base64.b64encode(blob).decode() for blob in blobs],
            }
        )
    return _html(f"Attention of {run}", {"runs": [{"run": run, "tags": tags}]})


def _html(title: str, records: dict) -> str:
    script, style = bundled("page"), (STATIC / "style.css").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # `<` could end the element early or begin a comment, so it is escaped as JSON allows.
    data = json.dumps(records, separators=(",", ":")).replace("<", "\\u003c")
    return PAGE.format(policy=policy, title=html.escape(title), style=style, records=data, script=script)


def _source(text: str) -> str:
    """Return the source expression of a content security policy for an inline element with this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
