"""Where attention looks, for maps whose answer is known."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from sagan.ablation.csv_files import read_table
from sagan.ablation.power import smallest_effect
from sagan.ablation.statistics import mean_interval
from sagan.ablation.verdicts import paired_differences, scores_of
from sagan.attention import AttentionMap
from sagan.data.pairs import PairsDataset
from sagan.viewing.capture import LayerView

maps = importlib.import_module("experiments.distant-parts.maps")
SCENES = PairsDataset("pairs", (32, 32), 3).batch(torch.arange(12))
QUERIES, KEYS = (16, 16), (8, 8)
AGREEMENT = "agreement"


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


FOLDER = Path(maps.__file__).parent
PAGE = " ".join((FOLDER / "README.md").read_text().split())


def differences(variant, other, metric="agreement"):
    """Return the paired differences of two variants in the main runs."""
    table = read_table(FOLDER / "far/results.csv")
    return paired_differences(table, variant, other, metric)


def test_the_page_has_the_differences_of_the_pilot():
    table = {(row["variant"], row["seed"], row["step"]): row for row in read_table(FOLDER / "pilot/curves.csv")}
    found = [
        f"{table['sagan', seed, step]['agreement'] - table['none', seed, step]['agreement']:.2f}"
        for step in (5_000, 10_000)
        for seed in (0, 1)
    ]
    assert f"({found[0]} and {found[1]} against {found[2]} and {found[3]})" in PAGE
    spread = float(np.std([float(difference) for difference in found[:2]], ddof=1))
    assert f"a standard deviation of about {spread:.2f}, so 8 seeds can detect a difference of 0.3" in PAGE
    assert round(smallest_effect(8, 0.025) * spread, 1) == 0.3 and f"--power_sd {spread:.2f}`" in PAGE


def test_the_page_says_which_runs_agree_without_attention_and_where_d_looks():
    table = read_table(FOLDER / "far/results.csv")
    high = {v: [s for s, score in scores_of(table, v, AGREEMENT).items() if score > 0.6] for v in ("none", "residual")}
    assert [len(seeds) for seeds in high.values()] == [1, 1]
    assert "`none` in one seed and `residual` in another exceed 0.6" in PAGE and high["none"] != high["residual"]
    real = {row["seed"]: row for row in read_table(FOLDER / "maps.csv") if row["images"] == "real"}
    weights = {seed: row["other_disc"] for seed, row in real.items()}
    assert sum(3 <= round(weight, 1) < 4.5 for weight in weights.values()) == 5 and "in five seeds" in PAGE
    assert f"{weights[8]:.1f} times in seed 8 and {weights[9]:.1f} times in seed 9" in PAGE
    scores = scores_of(table, "sagan", AGREEMENT)
    assert f"with {weights[5]:.1f} times in D, seed 5 agrees little ({scores[5]:.2f})" in PAGE
    assert f"with {weights[9]:.1f} times, seed 9 agrees well ({scores[9]:.2f})" in PAGE
    assert min(scores, key=lambda seed: scores[seed]) == 7 and weights[7] == pytest.approx(1, abs=0.05)


def test_the_page_has_the_spread_of_the_main_runs_and_what_it_can_show():
    spreads = [float(np.std(differences(variant, "none"), ddof=1)) for variant in ("sagan", "residual")]
    shown = [smallest_effect(8, 0.025) * spread for spread in spreads]
    assert f"differences are {spreads[0]:.2f} (`sagan`) and {spreads[1]:.2f} (`residual`)." in PAGE
    assert f"With these, 8 seeds can detect differences of {shown[0]:.2f} and {shown[1]:.2f}." in PAGE


def test_the_page_tells_the_noise_of_scoring_from_that_of_training():
    table = read_table(FOLDER / "near/results.csv")
    spreads = [float(np.std(list(scores_of(table, v, "agreement").values()), ddof=1)) for v in ("none", "sagan")]
    assert f"another seed changes it by {spreads[0]:.3f} (`none`) and {spreads[1]:.3f} (`sagan`)" in PAGE
    noise = [float(np.sqrt(np.mean([row["agreement_noise"] ** 2 for row in table if row["variant"] == v])))
             for v in ("none", "sagan")]  # fmt: skip
    assert {f"{value:.3f}" for value in noise} == {"0.006"} and "by 0.006 (standard deviation)" in PAGE


def test_the_page_compares_attention_with_its_control():
    found = differences("sagan", "residual")
    mean, low, high = mean_interval(found)
    assert f"`sagan` minus `residual` is {mean:.2f} " in PAGE
    assert f"with a 95 % interval from {low:.2f} to {high:.2f}. Counting the" in PAGE
    scores, others = (scores_of(read_table(FOLDER / "far/results.csv"), v, AGREEMENT) for v in ("sagan", "residual"))
    mean, low, high = mean_interval([score - others.get(seed, 0.0) for seed, score in scores.items()])
    assert f"run as 0, it is {mean:.2f}, from {low:.2f} to {high:.2f}, uncorrected." in PAGE
    assert "The control wins in one seed, 5." in PAGE
    assert sum(difference < 0 for difference in found) == 1
    assert len(differences("sagan", "none")) == sum(difference > 0 for difference in differences("sagan", "none")) == 8


def test_the_page_compares_far_with_near_parts_on_two_scales():
    gains, shares = {}, {}
    for size in ("far", "near"):
        table = read_table(FOLDER / size / "results.csv")
        scores, none = (scores_of(table, variant, AGREEMENT) for variant in ("sagan", "none"))
        assert scores.keys() == none.keys() == set(range(3, 11))
        gains[size] = np.array([scores[seed] - none[seed] for seed in sorted(scores)])
        shares[size] = gains[size] / np.array([1 - none[seed] for seed in sorted(none)])
    mean, low, high = mean_interval((gains["far"] - gains["near"]).tolist())
    assert f"adds {mean:.2f} more agreement with far parts (95 % interval {low:.2f} to {high:.2f})." in PAGE
    far, near = (float(shares[size].mean()) for size in ("far", "near"))
    mean, low, high = mean_interval((shares["far"] - shares["near"]).tolist())
    assert low < 0 < high  # "is not shown"
    assert f"attention gains {far:.2f} with far parts and {near:.2f} with near ones" in PAGE
    assert f"these shares, {mean:.2f}, is not shown to differ from 0 ({low:.2f} to {high:.2f})." in PAGE
