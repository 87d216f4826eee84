"""Agreement against closed forms, against all pairs one by one, and through a whole evaluation."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sagan.config import EvaluationConfig
from sagan.data.pairs import PairsDataset
from sagan.data.rules import SameHue, SamePattern
from sagan.evaluation import agreement as module
from sagan.evaluation import evaluate
from sagan.evaluation.agreement import agreement, agreement_scores
from tests.helpers.stand_ins import make_real
from tests.helpers.tiny_runs import cheap_extractor

HUE, PATTERN = SameHue(), SamePattern()
NAN = math.nan


def hues(*pairs):
    """Parts of images from (left, right) hues in degrees."""
    return torch.tensor(pairs, dtype=torch.float32)[..., None]


def circle(n):
    """n hues, evenly spaced."""
    return [360 * i / n - 180 for i in range(n)]


def test_the_gap_of_hues_goes_the_short_way_round():
    left, right = torch.tensor([[170.0], [0], [-90], [180]]), torch.tensor([[-170.0], [180], [90], [-180]])
    assert HUE.gap(left, right).tolist() == [20, 180, 180, 0]


def test_equal_hues_agree():
    """12 hues: chance is the mean over the 11 others, 12/11 of the 90 degrees of all 12."""
    found = agreement(hues(*((h, h) for h in circle(12))), HUE)
    assert (found.gap, found.both_parts, found.score) == (0, 1, 1)
    assert found.chance == pytest.approx(90 * 12 / 11)


def test_independent_hues_agree_as_chance_has_it():
    """All pairs of 12 hues once: gap and chance are 90 degrees alike, exactly."""
    found = agreement(hues(*((a, b) for a in circle(12) for b in circle(12))), HUE)
    assert found.gap == pytest.approx(90, abs=1e-9) and found.chance == pytest.approx(90, abs=1e-9)
    assert found.score == pytest.approx(0, abs=1e-9)


def test_one_half_right():
    """Of all pairs of 12 hues, half the images get equal hues instead, so that no part of a half changes its share: the
    sum of gaps is halved."""
    pairs = [(a, b) for a in circle(12) for b in circle(12)]
    equal = [(a, a) for a in circle(12)] * 12
    found = agreement(hues(*pairs, *equal), HUE)
    n = 288
    chance = (n * n * 90 - n / 2 * 90) / (n * (n - 1))  # all pairs, without each image's own
    assert found.gap == pytest.approx(45) and found.chance == pytest.approx(chance)
    assert found.score == pytest.approx(1 - 45 / chance) and found.score == pytest.approx(0.5, abs=0.001)


def test_a_missing_part_counts_at_chance():
    """A quarter of the images has equal parts, a quarter has no left part, a quarter no right part, and one has none:
    those with both agree fully, so agreement is their share."""
    parts = [pair for h in circle(12) for pair in ((h, h), (NAN, h), (h, NAN), (NAN, NAN))]
    found = agreement(hues(*parts), HUE)
    assert found.both_parts == 0.25 and found.score == pytest.approx(0.25)
    assert found.chance == pytest.approx(24 * 24 * 90 / (24 * 24 - 12))  # present parts alone
    assert found.gap == pytest.approx(0.75 * found.chance)


def test_one_hue_is_no_agreement():
    scores, (word,) = agreement_scores(hues(*[(40, 41)] * 20), HUE)
    assert scores == {"agreement_chance": pytest.approx(1), "agreement_both_parts": 1}  # and no gap, which is small
    assert word.startswith("agreement: the gap at chance is 1, but at least 30 degrees are needed")


@pytest.mark.parametrize("angle, defined", [(50, False), (70, True)])
def test_two_hues_are_scored_if_they_are_far_enough_apart(angle, defined):
    """Two hues in equal shares: chance is about half the angle between them, and 30 degrees are needed."""
    scores, left_out = agreement_scores(hues(*[(0, 0), (angle, angle)] * 100), HUE)
    assert ("agreement" in scores) == defined and bool(left_out) != defined
    assert scores["agreement_chance"] == pytest.approx(angle / 2, rel=0.01)


@pytest.mark.parametrize("parts", [[(NAN, NAN)] * 3, [(5, NAN)] * 3, [(5, 5)]])
def test_without_two_images_to_compare_nothing_but_presence_is_scored(parts):
    scores, (word,) = agreement_scores(hues(*parts), HUE)
    assert scores.keys() == {"agreement_both_parts"} and "no left and right part to compare" in word


def test_patterns():
    """All 4 tiles of two free cells among 16: two tiles differ in 1 cell on average, so that chance is 1/16 of all
    pairs; all 16 cells random and independent give 1/2."""
    free = torch.tensor([[a, b] for a in (0.0, 1.0) for b in (0.0, 1.0)])
    tiles = torch.cat([free, torch.zeros(4, 14)], 1)
    pairs = torch.stack([tiles.repeat_interleave(4, 0), tiles.repeat(4, 1)], 1)  # (16, 2, 16)
    found = agreement(pairs, PATTERN)
    assert found.gap == pytest.approx(1 / 16) and found.score == pytest.approx(0, abs=1e-9)
    assert "agreement" not in agreement_scores(pairs, PATTERN)[0]  # below 1/6
    every = torch.randint(2, (300, 1, 16), generator=torch.Generator().manual_seed(0)).float().expand(-1, 2, -1).clone()
    assert agreement(every, PATTERN).score == 1
    every[::2, 1] = 1 - every[::2, 1]  # the opposite pattern in every other image
    found = agreement(every, PATTERN)
    assert found.gap == 0.5 and found.score == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("rule", [HUE, PATTERN], ids=["hue", "pattern"])
def test_chance_is_that_of_all_pairs_in_any_number_of_blocks(rule, monkeypatch):
    """Against a loop over pairs, with a third of the parts missing."""
    random = torch.Generator().manual_seed(0)
    parts = torch.rand(40, 2, rule.columns, generator=random)
    parts = 360 * parts - 180 if rule is HUE else parts.round()
    parts[torch.rand(40, 2, generator=random) < 0.33] = NAN
    gaps = [rule.gap(parts[i, 0], parts[j, 1]).item() for i in range(40) for j in range(40) if i != j]
    gaps = [gap for gap in gaps if not math.isnan(gap)]
    whole = agreement(parts, rule)
    assert whole.chance == pytest.approx(sum(gaps) / len(gaps), rel=1e-6)
    for chunk in (1, 100, 700):
        monkeypatch.setattr(module, "CHUNK", chunk)
        assert agreement(parts, rule) == pytest.approx(whole, rel=1e-9)


SHUFFLED = 90  # of 120 generated images


def sample(start, stop, y):
    """Scenes with the right halves of others in the first ones."""
    data = PairsDataset("pairs", (32, 32), 3)
    index = torch.arange(start, stop)
    images = data.batch(index)
    images[..., 16:] = data.batch(torch.where(index < SHUFFLED, index + 500, index))[..., 16:]
    return images


def scores(n=121, **config):
    real = PairsDataset("pairs", (32, 32), 3)
    config = EvaluationConfig(num_samples=n, num_real=20, **config)
    return evaluate(sample, num_classes=0, real=real, extractor=cheap_extractor(), config=config)


def test_an_evaluation_scores_the_generated_images_by_the_rule_of_the_data():
    out = scores()
    parts = HUE.read(sample(0, 121, None))
    expected = agreement(parts, HUE)
    assert out.values["agreement"] == pytest.approx(expected.score) and 0.1 < expected.score < 0.45
    assert out.values["agreement_gap"] == pytest.approx(expected.gap)
    assert out.values["agreement_chance"] == pytest.approx(expected.chance)
    assert out.values["agreement_both_parts"] == expected.both_parts
    assert out.protocol["rule"] == "same hue, version 1"
    assert f"agreement {expected.score:.5g}, agreement_gap " in out.line()
    assert "rule same hue, version 1" in out.line()
    assert json.loads(json.dumps(out.record()))["agreement"] == out.values["agreement"]


def test_data_without_a_rule_have_no_agreement():
    config = EvaluationConfig(num_samples=20)
    made = lambda start, stop, y: sample(start, stop, y)[..., :8, :8]  # noqa: E731
    out = evaluate(made, num_classes=0, real=replace(make_real(classes=0)), extractor=cheap_extractor(), config=config)
    assert not any("agreement" in text for text in [*out.values, *out.left_out]) and "rule" not in out.protocol


def agreement_values(out):
    return {name: value for name, value in out.values.items() if name.startswith("agreement")}


def test_the_batch_size_changes_nothing():
    first = agreement_values(scores(batch_size=64))
    assert len(first) == 4
    assert agreement_values(scores(batch_size=7)) == agreement_values(scores(batch_size=1)) == first


RANK = """
import json, sys
import torch, torch.distributed as dist
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=int(sys.argv[2]), world_size=2)
torch.set_num_threads(1)
from tests.evaluation import test_agreement
import sagan.evaluation.features as f
f.GATHER_ROWS = 32
print(json.dumps(test_agreement.agreement_values(test_agreement.scores())))
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow  # test_evaluation_scores.py has the same of other scores
def test_the_number_of_processes_changes_nothing(tmp_path):
    """121 images are a batch for each process."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "SAGAN_CACHE": str(tmp_path / "ranks")}
    command = [sys.executable, "-c", RANK, str(tmp_path / "rendezvous")]
    ranks = [
        subprocess.Popen([*command, rank], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    outputs = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in outputs)
    assert first == second == agreement_values(scores())
