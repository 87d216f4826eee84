"""Power: against published sample sizes, integration and simulation, and as the command shows it."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from sagan.ablation.power import deviation_interval, paired_t_power, seeds_needed, smallest_effect
from sagan.ablation.statistics import ALPHA, decide, paired_p


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_published_sample_sizes(effect, seeds):
    """Two-sided paired t test at 5 % with 80 % power, as G*Power has them."""
    assert seeds_needed(effect, 0.05) == seeds
    assert paired_t_power(effect, seeds - 1, 0.05) < 0.8 <= paired_t_power(effect, seeds, 0.05)


@pytest.mark.parametrize(("effect", "pairs", "level"), [(1.0, 5, 0.05), (2.0, 5, 0.05 / 3), (0.7, 16, 0.05 / 3)])
def test_power_by_integration(effect, pairs, level):
    """P(|Z + shift| > c S), with S the sample deviation: over its chi distribution, without the noncentral t."""
    df, shift = pairs - 1, effect * math.sqrt(pairs)
    critical = stats.t.ppf(1 - level / 2, df)

    def rejected(s):
        two_sided = stats.norm.sf(critical * s - shift) + stats.norm.cdf(-critical * s - shift)
        return two_sided * stats.chi.pdf(s * math.sqrt(df), df) * math.sqrt(df)

    assert paired_t_power(effect, pairs, level) == pytest.approx(integrate.quad(rejected, 0, 8)[0], abs=1e-6)


@pytest.mark.parametrize("comparisons", [1, 2, 3])
def test_the_smallest_effect_of_many_seeds(comparisons):
    """It falls with the number of seeds, as for a normal distribution in the limit."""
    level = ALPHA / comparisons
    effects = [smallest_effect(seeds, level) for seeds in range(5, 201)]
    assert (np.diff(effects) < 0).all()
    normal = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(0.8)
    assert effects[-1] == pytest.approx(normal / math.sqrt(200), rel=0.02)


def test_power_of_no_effect_is_the_level():
    assert paired_t_power(0.0, 7, 0.05) == pytest.approx(0.05)


@pytest.mark.parametrize(("effect", "pairs"), [(1.0, 5), (1.5, 8)])
def test_power_by_simulation(effect, pairs):
    """The rate of verdicts meets the closed form: alone at 5 %; of three, between the first and the last step's."""
    random, count = np.random.default_rng(0), 4000
    draws = random.normal(effect, 1, (count, pairs))
    error = 3 * math.sqrt(0.25 / count)
    alone = np.mean([paired_p(d) <= ALPHA for d in draws])
    assert alone == pytest.approx(paired_t_power(effect, pairs, ALPHA), abs=error)
    nulls = random.normal(0, 1, (count, 2, pairs))
    families = ({"a": d, "b": b, "c": c} for d, (b, c) in zip(draws, nulls, strict=True))
    family = np.mean([decide(differences)["a"].outcome == "higher" for differences in families])
    assert paired_t_power(effect, pairs, ALPHA / 3) - error <= family <= paired_t_power(effect, pairs, ALPHA) + error


def test_the_smallest_effect_has_the_power_that_is_asked():
    for pairs, level in ((5, 0.05 / 3), (16, 0.05)):
        assert paired_t_power(smallest_effect(pairs, level), pairs, level) == pytest.approx(0.8)
    effect = smallest_effect(12, 0.05 / 3)
    assert seeds_needed(effect * 1.001, 0.05 / 3) == 12 and seeds_needed(effect * 0.999, 0.05 / 3) == 13
    assert seeds_needed(9.0, 0.05) == 5 and seeds_needed(1e-4, 0.05) is None


def test_the_most_seeds_are_searched_to_the_end():
    effect = smallest_effect(9_000, 0.025)
    assert seeds_needed(effect * 1.0001, 0.025) in (8_999, 9_000) and seeds_needed(0.001, 0.025) is None


def test_interval_of_a_standard_deviation():
    values = np.random.default_rng(0).normal(size=10)
    deviation, low, high = deviation_interval(values)
    df = 9
    assert deviation == pytest.approx(np.std(values, ddof=1))
    for bound, tail in ((low, 0.975), (high, 0.025)):
        assert stats.chi2.cdf(df * (deviation / bound) ** 2, df) == pytest.approx(tail)
