"""Intervals and verdicts, against closed forms and scipy's own tests."""

import math

import pytest
from scipy import stats

from sagan.ablation.statistics import lower_is_better, mean_interval, summarize, summary_rows, verdict_of


def rows(metric="kid_mean_x", **scores):
    """Finished rows of results: scores by variant, a value for each seed."""
    return [
        {"variant": variant, "seed": seed, "status": "finished", metric: value}
        for variant, values in scores.items()
        for seed, value in enumerate(values)
        if value is not None
    ]


def test_interval_of_a_mean():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)  # t of 2 degrees of freedom at 0.975; the sample deviation is 1
    assert (mean, low, high) == pytest.approx((2, 2 - half, 2 + half))
    assert mean_interval([5.0, 5.0]) == (5, 5, 5)
    one = mean_interval([7.0])
    assert one.mean == 7 and math.isnan(one.low) and math.isnan(one.high)


def test_differences_are_paired_by_seed_and_verdicts_go_by_all_comparisons_at_once():
    none, a, b = [0.5, 0.6, 0.4, 0.55], [0.45, 0.56, 0.33, 0.49], [0.52, 0.61, 0.45, 0.5]
    summaries = {s.variant: s for s in summarize(rows(none=none, a=a, b=b), "none")}
    for variant, values in (("a", a), ("b", b)):
        test = stats.ttest_rel(values, none)
        alone, together = test.confidence_interval(0.95), test.confidence_interval(0.975)
        s = summaries[variant]
        assert s.difference[1:] == pytest.approx((alone.low, alone.high))
        assert s.simultaneous[1:] == pytest.approx((together.low, together.high))
    assert summaries["a"].verdict == "better" and summaries["b"].verdict == "no difference shown"
    assert summaries["none"].difference is None and summaries["none"].verdict == ""


def test_only_seeds_that_both_have_are_paired():
    (_, s) = summarize(rows(none=[1.0, 2.0, None], a=[None, 3.0, 9.0]), "none")
    assert s.seeds == 2 and s.pairs == 1 and s.difference.mean == 1 and s.verdict == "one seed shows nothing"
    (only,) = summarize(rows(none=[None], a=[1.0]), "none")
    assert only.pairs == 0 and only.verdict == "no pairs"


def test_a_run_without_an_end_counts_for_nothing():
    table = [*rows(none=[1.0, 2.0]), {"variant": "none", "seed": 2, "status": "diverged", "kid_mean_x": 99.0}]
    (s,) = summarize(table, "none")
    assert s.seeds == 2 and s.score.mean == 1.5


def test_nobody_wins_by_losing_its_unlucky_seeds():
    table = rows(none=[0.50, 0.52, 0.51], a=[0.30, 0.32, 0.311])
    assert summarize(table, "none")[1].verdict == "better"
    table.append({"variant": "a", "seed": 3, "status": "diverged"})
    assert summarize(table, "none")[1].verdict == "no verdict, 1 runs did not finish"


def test_direction_of_each_metric():
    assert all(map(lower_is_better, ("fid", "kid_mean", "intra_fid", "fid_efficientnet_lite0", "agreement_gap")))
    assert not any(map(lower_is_better, ("is_mean", "precision", "recall_efficientnet_lite0", "agreement")))
    below, above = mean_interval([-1.0, -1.1, -0.9]), mean_interval([1.0, 1.1, 0.9])
    assert verdict_of(below, True) == "better" and verdict_of(below, False) == "worse"
    assert verdict_of(above, True) == "worse" and verdict_of(above, False) == "better"


def test_no_winner_among_equals():
    """Of many variants that differ by noise alone, hardly any family has one that is called better or worse."""
    import numpy as np

    noise = np.random.default_rng(0)
    families, declared = 300, 0
    for _ in range(families):
        table = rows(**{f"v{i}": noise.normal(size=3).tolist() for i in range(10)})
        declared += any(s.verdict in ("better", "worse") for s in summarize(table, "v0"))
    assert declared / families <= 0.08  # 5 % at most, give or take two standard errors


def test_summary_rows_hold_both_intervals():
    first, second = summary_rows(summarize(rows(none=[1.0, 2.0], a=[2.0, 4.0]), "none"))
    assert "difference" not in first and first["mean"] == 1.5
    assert second["difference"] == 1.5 and second["pairs"] == 2
    assert second["difference_low"] < second["difference"] < second["difference_high"]
