"""From rows to verdicts: what is paired, what is primary, and when there is no verdict."""

import math

import numpy as np
import pytest
from scipy import stats

from sagan.ablation.metrics import readable
from sagan.ablation.statistics import mean_interval
from sagan.ablation.verdicts import summarize, summary_rows
from sagan.evaluation.directions import direction, is_score, lower_is_better

KID = "kid_mean_x"
NONE = [0.50, 0.60, 0.40, 0.55, 0.45]


def rows(metric=KID, **scores):
    """Rows of results: scores by variant, a value for each seed; None is a run that diverged, a word another state."""
    return [
        {"variant": variant, "seed": seed, "status": value or "diverged"}
        if value is None or isinstance(value, str)
        else {"variant": variant, "seed": seed, "status": "finished", metric: value}
        for variant, values in scores.items()
        for seed, value in enumerate(values)
    ]


def verdicts(table, primary, margin=None, metric=KID):
    return {s.variant: s for s in summarize(table, "none", metric, primary, margin) if s.metric == metric}


def less(values, amount, noise=0.001):
    """Scores of a variant that is better by about `amount`."""
    return [v - amount + noise * (-1) ** i * i for i, v in enumerate(values)]


def test_differences_are_paired_by_seed_and_corrected_by_holm():
    a, b = less(NONE, 0.05, 0.01), less(NONE, 0.01, 0.02)
    found = verdicts(rows(none=NONE, a=a, b=b), ["a", "b"])
    p = {v: stats.ttest_rel(x, NONE) for v, x in (("a", a), ("b", b))}
    assert found["a"].p == pytest.approx(2 * p["a"].pvalue) and found["b"].p == pytest.approx(p["b"].pvalue)
    assert (found["a"].verdict, found["b"].verdict) == ("better", "undecided")
    for variant, confidence in (("a", 0.975), ("b", 0.95)):  # the second step of Holm's method is at the full level
        bounds = p[variant].confidence_interval(confidence)
        assert found[variant].confidence == pytest.approx(confidence)
        assert found[variant].difference[1:] == pytest.approx((bounds.low, bounds.high))
    assert found["none"].difference is None and found["none"].verdict == "" and found["none"].role == "baseline"


def test_only_primary_comparisons_of_the_primary_metric_get_verdicts():
    table = [row | {"fid_x": 100 * row[KID]} for row in rows(none=NONE, a=less(NONE, 0.1), b=less(NONE, 0.1))]
    summaries = summarize(table, "none", KID, ["a"])
    assert [s.metric for s in summaries] == [KID] * 3 + ["fid_x"] * 3
    assert [s.role for s in summaries] == ["baseline", "primary", "exploratory"] + ["baseline"] + ["exploratory"] * 2
    assert [s.verdict for s in summaries] == ["", "better", "exploratory", "", "exploratory", "exploratory"]
    alone = summaries[1]  # the only primary comparison: no correction
    assert alone.confidence == pytest.approx(0.95) and summaries[2].p is None


def test_no_verdict_below_five_seeds():
    table = rows(none=NONE[:3], a=less(NONE[:3], 0.3), b=[0.1, None, None], c=[None] * 3)
    found = verdicts(table, ["a", "b", "c"])
    assert found["a"].verdict == "no verdict: 3 seeds, at least 5 needed" and found["a"].p is None
    assert found["b"].verdict == "no verdict: 1 seed, at least 5 needed" and "c" not in found
    assert found["a"].difference.excludes(0)  # an interval is shown nevertheless
    four = rows(none=NONE, a=[None, *less(NONE[1:], 0.3)])
    assert verdicts(four, ["a"])["a"].verdict == "no verdict: 4 seeds, at least 5 needed"


def test_no_interval_of_two_seeds():
    found = verdicts(rows(none=[0.5, 0.6, 0.55], a=[0.4, None, 0.6]), [])
    assert math.isnan(found["a"].score.low) and math.isnan(found["a"].difference.low)
    assert found["a"].pairs == 2 and found["a"].difference.mean == pytest.approx(-0.025)
    assert not math.isnan(found["none"].score.low)
    assert not any(value != value for row in summary_rows(list(found.values())) for value in row.values())


def test_nobody_wins_by_losing_its_unlucky_seeds():
    six = [*NONE, 0.52]
    good, bad = less(six, 0.2), less(six, -0.2)
    assert verdicts(rows(none=six, a=good), ["a"])["a"].verdict == "better"
    lost = verdicts(rows(none=six, a=[*good[:5], None]), ["a"])
    assert lost["a"].verdict == "no verdict: 1 of 6 runs of a without a score"
    assert verdicts(rows(none=six, a=[*bad[:5], None]), ["a"])["a"].verdict == "worse"
    lost = verdicts(rows(none=[*six[:5], None], a=bad), ["a"])  # the baseline would win
    assert lost["a"].verdict == "no verdict: 1 of 6 runs of none without a score"
    assert verdicts(rows(none=[*six[:5], None], a=good), ["a"])["a"].verdict == "better"
    undefined = rows(none=six, a=good)
    del undefined[-1][KID]  # finished, but its images did not support the score
    assert verdicts(undefined, ["a"])["a"].verdict == "no verdict: 1 of 6 runs of a without a score"
    equal = rows(none=[*six[:5], None], a=[*less(six[:5], 0.0), None])
    assert verdicts(equal, ["a"], 0.1)["a"].verdict.endswith("runs of a and 1 of 6 runs of none without a score")


@pytest.mark.parametrize("state", ["waiting", "interrupted", "failed"])
def test_a_verdict_waits_for_the_last_run(state):
    six = [*NONE, 0.52]
    good, same = less(six, 0.2), less(six, 0.0)
    for table in (rows(none=six, a=[*good[:5], state], b=same), rows(none=[*six[:5], state], a=good, b=same)):
        found = verdicts(table, ["a", "b"])
        assert found["a"].verdict == "no verdict yet: 5 of 6 seeds" and found["a"].p is None
        assert found["a"].confidence == pytest.approx(0.95)  # neither Holm's interval nor a p value to look at early
        differences = [x - y for x, y in zip(good[:5], six[:5], strict=True)]
        assert found["a"].difference[1:] == pytest.approx(mean_interval(differences)[1:])
        waits_too = table[5]["status"] == state  # the baseline's last run
        assert (found["b"].verdict == "no verdict yet: 5 of 6 seeds") == waits_too
    alone = verdicts(rows(none=six, a=[*good[:5], state], b=less(six, 0.2)), ["a", "b"])["b"]
    assert alone.verdict == "better" and alone.confidence == pytest.approx(0.975)  # the family is still of two


def test_a_plan_of_few_seeds_has_no_verdict_to_wait_for():
    found = verdicts(rows(none=NONE[:3], a=[0.1, 0.2, "waiting"]), ["a"])
    assert found["a"].verdict == "no verdict: 2 seeds, at least 5 needed"


def test_a_withheld_verdict_leaves_no_trace():
    six = [*NONE, 0.52]
    lost = verdicts(rows(none=six, a=[*less(six, 0.2)[:5], None]), ["a"], 0.3)["a"]
    assert lost.p is None and lost.equivalence is None and lost.confidence == pytest.approx(0.95)


def test_equal_values_have_no_interval():
    found = verdicts(rows(none=[0.0] * 3, a=[0.0, 0.0, 0.1]), [])
    assert math.isnan(found["none"].score.low) and not math.isnan(found["a"].score.low)


def test_a_margin_allows_equality():
    same, small, large = less(NONE, 0.0), less(NONE, 0.02), less(NONE, 0.2)
    found = verdicts(rows(none=NONE, a=same, b=small, c=large), ["a", "b", "c"], margin=0.05)
    assert [found[v].verdict for v in "abc"] == ["equal within the margin", "better, but within the margin", "better"]
    assert found["a"].equivalence.within(0.05) and not found["c"].equivalence.within(0.05)
    noisy = verdicts(rows(none=NONE, a=[0.4, 0.7, 0.3, 0.6, 0.5]), ["a"], margin=0.05)
    assert noisy["a"].verdict == "undecided"
    assert verdicts(rows(none=NONE, a=same), ["a"])["a"].equivalence is None


def test_a_score_that_is_no_number():
    assert verdicts(rows(none=NONE, a=[math.nan] * 5), ["a"])["a"].verdict == "no verdict: a score is not a number"


def test_direction_and_names_of_metrics():
    assert all(map(lower_is_better, ("fid", "kid_mean", "intra_fid", "fid_efficientnet_lite0", "agreement_gap")))
    assert not any(map(lower_is_better, ("is_mean", "precision", "recall_efficientnet_lite0", "agreement")))
    table = {"precision_x": ("better", "worse"), KID: ("worse", "better")}
    for metric, (more, fewer) in table.items():
        found = verdicts(rows(metric, none=NONE, a=less(NONE, -0.2), b=less(NONE, 0.2)), ["a", "b"], metric=metric)
        assert (found["a"].verdict, found["b"].verdict) == (more, fewer)
    assert lower_is_better("agreement_chance") is None and "neither" in direction("agreement_chance")
    assert readable("kid_mean_efficientnet_lite0") == "KID (EfficientNet-lite0)"
    assert readable("fid_efficientnet_lite0") == "Fréchet distance (EfficientNet-lite0)" and readable("fid") == "FID"
    assert readable("coverage_dinov2_vit_b_14") == "coverage (DINOv2 vit-b-14)"
    assert readable("fid_vgg16") == "Fréchet distance (VGG-16)" and readable("density") == "density"
    assert readable("my_score") == "my score" and direction("kid_mean") == "lower is better"
    columns = ("kid_mean", "kid_std", "kid_std_x", "intra_fid_n", "intra_fid_n_x", "kid_mean_x_noise", "agreement")
    assert [is_score(c) for c in columns] == [True, False, False, False, False, False, True]


def test_no_winner_among_equals():
    """Of plans whose variants differ by noise alone, at most 5 % call one of the three primary ones anything."""
    noise, count = np.random.default_rng(0), 300
    declared = 0
    for _ in range(count):
        table = rows(**{v: noise.normal(size=5).tolist() for v in ("none", "a", "b", "c", "d", "e")})
        declared += any(s.verdict in ("better", "worse") for s in summarize(table, "none", KID, ["a", "b", "c"]))
    assert declared / count <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / count)


def test_summary_rows():
    table = summary_rows(list(verdicts(rows(none=NONE, a=less(NONE, 0.1)), ["a"], 0.02).values()))
    first, second = table
    assert "difference" not in first and first["mean"] == pytest.approx(0.5) and first["role"] == "baseline"
    assert second["difference_low"] < second["difference"] < second["difference_high"] < 0 < second["p_holm"] < 0.05
    assert second["equivalence_high"] < -0.02 and second["verdict"] == "better" and second["pairs"] == 5


def test_scores_of_different_protocols_are_not_compared():
    table = rows(none=NONE, a=less(NONE, 0.1), b=less(NONE, 0.1))
    for row in table:
        row["protocol"] = "new" if row["variant"] == "a" else "old"
    found = verdicts(table, ["a", "b"])
    assert "a" not in found  # no mean contains such scores; the report counts them
    assert found["b"].verdict == "better" and found["b"].p == pytest.approx(
        2 * stats.ttest_rel(less(NONE, 0.1), NONE).pvalue  # both still count for the correction
    )
    table[6]["protocol"] = "old"  # of a, seed 1
    found = verdicts(table, ["a"])
    assert found["a"].verdict == "no verdict: scored under different protocols"
    assert (found["a"].seeds, found["a"].pairs, found["a"].p) == (1, 1, None)
    assert found["a"].score.mean == less(NONE, 0.1)[1]


def test_equal_differences_have_no_verdict():
    found = verdicts(rows(none=[0.0] * 5, a=[0.0] * 5, b=[0.001] * 5), ["a", "b"], margin=0.1)
    assert {found[v].verdict for v in "ab"} == {"no verdict: all differences are equal"}
    assert found["b"].p is None and math.isnan(found["b"].difference.low)
