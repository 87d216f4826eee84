"""Pure statistics against closed forms, scipy's own tests, closed testing and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sagan.ablation.statistics import (
    ALPHA,
    MIN_PAIRS,
    decide,
    equivalence_p,
    holm_adjusted,
    holm_levels,
    mean_interval,
    paired_p,
)

NAMES = ["a", "b", "c"]


def test_interval_of_a_mean():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)  # t of 2 degrees of freedom at 0.975; the sample deviation is 1
    assert (mean, low, high) == pytest.approx((2, 2 - half, 2 + half))
    assert mean_interval([5.0, 5.0]) == (5, 5, 5)
    one = mean_interval([7.0])
    assert one.mean == 7 and math.isnan(one.low) and math.isnan(one.high)
    assert not one.excludes(0) and not one.within(99)


def test_p_values_are_those_of_scipy():
    values = np.random.default_rng(0).normal(0.3, 1, 7)
    assert paired_p(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    below = stats.ttest_1samp(values, 0.8, alternative="less").pvalue
    above = stats.ttest_1samp(values, -0.8, alternative="greater").pvalue
    assert equivalence_p(values, 0.8) == pytest.approx(max(below, above))


def test_values_without_spread():
    assert paired_p([0.0] * 5) == 1 and paired_p([0.1] * 5) == 0
    assert equivalence_p([0.1] * 5, 0.2) == 0 and equivalence_p([0.3] * 5, 0.2) == 1
    once = [0.1, 0.1, 0.1, 0.1, 0.1 + 1e-15]  # equal but for rounding
    assert decide({"a": [0.0] * 5, "b": [0.001] * 5, "c": once}, 0.1) == {"a": None, "b": None, "c": None}
    assert decide({"a": [0.0] * 4 + [1e-6]}, 0.1)["a"].outcome == "equal"


def closed_testing(p_values, alpha):
    """Holm's method by its definition: a hypothesis falls if every set with it falls by Bonferroni."""
    indices = range(len(p_values))
    sets = [s for n in range(1, len(p_values) + 1) for s in itertools.combinations(indices, n)]
    falls = {s: min(p_values[i] for i in s) <= alpha / len(s) for s in sets}
    return [all(falls[s] for s in sets if i in s) for i in indices]


def test_holm_is_closed_testing_by_bonferroni():
    random = np.random.default_rng(0)
    for _ in range(300):
        p_values = (random.random(random.integers(1, 5)) * 0.1).tolist()
        expected = closed_testing(p_values, ALPHA)
        assert [p <= level for p, level in zip(p_values, holm_levels(p_values), strict=True)] == expected
        assert [p <= ALPHA for p in holm_adjusted(p_values)] == expected
    assert holm_adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_levels([0.01, 0.04, 0.03]) == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2])


def test_intervals_say_what_verdicts_say():
    random, outcomes = np.random.default_rng(1), set()
    for _ in range(300):
        effects = random.choice([0.0, 1.5], 3)
        family = {n: random.normal(e, random.choice([0.1, 1.0]), 6) for n, e in zip(NAMES, effects, strict=True)}
        for decision in decide(family, margin=0.5).values():
            outcomes.add(decision.outcome)
            assert decision.interval.excludes(0) == (decision.outcome in ("lower", "higher"))
            assert decision.equivalence.within(0.5) == decision.within_margin
            assert (decision.p <= ALPHA) == decision.interval.excludes(0)
            assert decision.within_margin or decision.outcome != "equal"
    assert outcomes == {"lower", "higher", "equal", "undecided"}


def test_untested_comparisons_still_count():
    good = [-1.0, -1.1, -0.9, -1.2, -0.8]
    few, broken = good[:4], [*good[:4], math.nan]
    decisions = decide({"a": good, "b": few, "c": broken})
    assert decisions["b"] is None and decisions["c"] is None
    assert decisions["a"].confidence == pytest.approx(1 - ALPHA / 3)
    assert decide({"a": good})["a"].confidence == pytest.approx(1 - ALPHA)
    assert decide({"a": good[: MIN_PAIRS - 1]})["a"] is None


def families(count, seeds, scales, effects, draw=None, seed=0):
    """Decisions of `count` families: differences of three variants to a shared baseline, normal or as `draw` has it.

    `scales` are those of the baseline and of the variants.
    """
    random = np.random.default_rng(seed)
    draw = draw or (lambda size: random.normal(size=size))
    for _ in range(count):
        scores = draw((4, seeds)) * np.array(scales)[:, None] + np.array([0.0, *effects])[:, None]
        yield decide(dict(zip(NAMES, scores[1:] - scores[0], strict=True)))


def false_verdict_rate(count, seeds, scales, effects=(0.0, 0.0, 0.0), draw=None):
    """Return the share of families with a verdict on a variant whose effect is 0."""
    null = [n for n, e in zip(NAMES, effects, strict=True) if e == 0]
    wrong = [any(d[n].outcome != "undecided" for n in null) for d in families(count, seeds, scales, effects, draw)]
    return float(np.mean(wrong))


def at_most(alpha, count):
    """Return the rate that a true rate of at most alpha exceeds once in 700 simulations."""
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / count)


SCALES = {"equal": (1, 1, 1, 1), "noisy baseline": (3, 1, 1, 1), "one noisy variant": (1, 3, 1, 1)}


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("effects", [(0.0, 0.0, 0.0), (9.0, 0.0, 0.0)])
def test_family_wise_error(scales, effects):
    """At most 5 % of families have a false verdict, also if one comparison is rightly rejected."""
    assert false_verdict_rate(2000, 5, SCALES[scales], effects) <= at_most(ALPHA, 2000)


def test_false_equality():
    """With true differences that just reach the margin, "equal" comes in at most 5 % of families."""
    random, count = np.random.default_rng(2), 2000
    draws = (decide({n: random.normal(0.7, 1, 8) for n in NAMES}, 0.7) for _ in range(count))
    rate = np.mean([any(d.within_margin for d in decisions.values()) for decisions in draws])
    assert 0.02 < rate <= at_most(ALPHA, count)  # independent, at the edge: near 5 %


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 8, 16])
@pytest.mark.parametrize("scales", SCALES)
def test_family_wise_error_at_length(scales, seeds):
    assert false_verdict_rate(40_000, seeds, SCALES[scales]) <= at_most(ALPHA, 40_000)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["t3", "lognormal"])
def test_family_wise_error_of_other_noise(shape):
    """Heavy tails and skew that all variants share: the differences are symmetric, and the error stays below 5 %."""
    random = np.random.default_rng(3)
    draws = {"t3": lambda size: random.standard_t(3, size), "lognormal": lambda size: random.lognormal(size=size)}
    assert false_verdict_rate(20_000, 5, SCALES["equal"], draw=draws[shape]) <= at_most(ALPHA, 20_000)
