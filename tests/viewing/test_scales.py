"""Which weights the ends of a colour scale stand for, and that the tab's modules have the same rules and colours."""

import json
import re

import pytest
import torch

from sagan.attention import AttentionMap
from sagan.viewing import drawing, rows, scales
from sagan.viewing.bundle import STATIC
from sagan.viewing.scales import Range, range_of, shared

WEIGHTS = torch.tensor([[0.24, 0.26], [0.25, 0.25]])


def a_map(weights, kind="matrix", distribution=False):
    size = (1, 2) if kind == "matrix" else (2, 2)
    return AttentionMap(kind, weights[None, None], size, size, distribution=distribution)


def test_from_zero_a_nearly_uniform_row_stays_low_on_the_scale():
    found = range_of(WEIGHTS, a_map(WEIGHTS, distribution=True), "zero", cells=4)
    assert (found.low, found.high) == pytest.approx((0, 1.0))  # four times 1/4
    assert found.place(WEIGHTS).flatten().tolist() == pytest.approx([0.24, 0.26, 0.25, 0.25])
    peaked = torch.tensor([[0.01, 0.97], [0.01, 0.01]])
    assert range_of(peaked, a_map(peaked, distribution=True), "zero", cells=16).high == pytest.approx(0.97)


def test_stretched_and_shared():
    m = a_map(WEIGHTS, distribution=True)
    assert range_of(WEIGHTS, m, "stretch", 4)[:2] == pytest.approx((0.24, 0.26))
    assert shared([Range(0, 0.5), Range(0, 2.0)]) == Range(0, 2.0)


def test_gates_go_from_0_to_1_or_further():
    for factor, high in ((0.4, 1.0), (1.5, 1.5)):
        gate = torch.full((2, 2), factor)
        assert range_of(gate, a_map(gate, "spatial gate"), "zero", 4)[:2] == pytest.approx((0.0, high))


@pytest.mark.parametrize("scale", ["zero", "shared", "stretch"])
def test_zero_is_in_the_middle_of_signed_weights(scale):
    signed = torch.tensor([[-0.5, 0.1], [0.2, 0.3]])
    assert range_of(signed, a_map(signed), scale, 4) == Range(-0.5, 0.5, drawing.DIVERGING)
    positive = signed.abs()  # a row without negative weights, of a map that has some
    assert range_of(positive, a_map(signed), scale, 4) == Range(-0.5, 0.5, drawing.DIVERGING)


def constant(module, name):
    """Return a number or a list that a module of the tab defines."""
    found = re.search(rf"\bconst {name} = (.*?);", (STATIC / module).read_text(), flags=re.S)
    return json.loads(found[1])


def test_the_tab_has_the_same_colours_and_constants():
    assert constant("draw.js", "BRIGHT") == [list(stop) for stop in drawing.HEAT]
    assert constant("draw.js", "SIGNED") == [list(stop) for stop in drawing.DIVERGING]
    assert constant("scales.js", "TOP") == scales.TOP and constant("maps.js", "LEAST") == rows.LEAST
    pins = [tuple(bytes.fromhex(colour.removeprefix("#"))) for colour in constant("draw.js", "PINS")]
    assert pins == list(drawing.COLOURS)
