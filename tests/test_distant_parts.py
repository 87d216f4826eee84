"""Where attention looks, for maps whose answer is known."""

import importlib

import pytest
import torch

from sagan.attention import AttentionMap
from sagan.data.pairs import PairsDataset
from sagan.viewing.capture import LayerView

maps = importlib.import_module("experiments.distant-parts.maps")
SCENES = PairsDataset("pairs", (32, 32), 3).batch(torch.arange(12))
QUERIES, KEYS = (16, 16), (8, 8)


def view(weights, scenes=SCENES):
    """Return a view of scenes with one map."""
    attention = AttentionMap("matrix", weights, QUERIES, KEYS, distribution=True)
    return LayerView("generator", "blocks.1.attention", "generated", scenes, None, [attention], gamma=1.0)


def rows(target):
    """Return maps whose queries all attend to one disc, 0 left or 1 right, in proportion to its cover of a cell."""
    cells = maps.discs(SCENES, KEYS)[:, target]
    return (cells / cells.sum(1, keepdim=True))[:, None, None].expand(-1, 1, 256, 64).clone()


def test_uniform_attention_scores_one():
    assert maps.look([view(torch.full((12, 1, 256, 64), 1 / 64))]) == pytest.approx((1, 1, 1), rel=1e-5)


def test_discs_that_look_at_each_other_are_told_from_discs_that_look_at_themselves():
    left = torch.arange(256) % 16 < 8
    across, within = rows(1), rows(0)
    across[:, :, ~left], within[:, :, ~left] = rows(0)[:, :, ~left], rows(1)[:, :, ~left]
    assert maps.look([view(across)]).own_disc == pytest.approx(0, abs=1e-6)
    assert maps.look([view(within)]).other_disc == pytest.approx(0, abs=1e-6)
    crossed = maps.look([view(across)]).other_disc
    assert crossed > 5 and crossed == pytest.approx(maps.look([view(within)]).own_disc, rel=0.1)


def test_images_with_one_disc_do_not_count():
    scenes = SCENES.clone()
    scenes[0, :, :, 16:] = scenes[0, :, :1, :1]
    seen, others = maps.look([view(rows(0), scenes)]), maps.look([view(rows(0)[1:], SCENES[1:])])
    assert seen == pytest.approx(others) and seen != pytest.approx(maps.look([view(rows(0))]))
