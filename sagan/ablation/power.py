"""Power analysis: how large a difference a plan's seeds can show, and how many seeds a given difference needs.

The power of the two-sided paired t test is that of the noncentral t distribution.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from sagan.ablation.statistics import MIN_PAIRS

POWER = 0.8
"""Chance of finding a difference that exists."""
MOST_SEEDS = 10_000


def paired_t_power(effect: float, pairs: int, level: float) -> float:
    """Return the chance that the two-sided paired t test rejects 0.

    `effect` is the true mean difference in standard deviations of the paired differences.
    """
    df, shift = pairs - 1, abs(effect) * math.sqrt(pairs)
    critical = stats.t.ppf(1 - level / 2, df)
    lower = float(stats.nct.cdf(-critical, df, shift))
    # scipy returns NaN for large shifts, where the lower tail vanishes.
    return float(stats.nct.sf(critical, df, shift)) + (0.0 if math.isnan(lower) else lower)


def smallest_effect(pairs: int, level: float, power: float = POWER) -> float:
    """Return the effect, in standard deviations of paired differences, that `pairs` seeds detect with `power`."""
    above = 1.0
    while paired_t_power(above, pairs, level) < power:
        above *= 2
    root = optimize.brentq(lambda effect: paired_t_power(effect, pairs, level) - power, 0.0, above, xtol=1e-10)
    return float(root)  # pyright: ignore[reportArgumentType]  # it is a tuple only with full_output


def seeds_needed(effect: float, level: float, power: float = POWER) -> int | None:
    """Return the fewest seeds, at least MIN_PAIRS, that detect an effect with `power`; None if MOST_SEEDS do not."""
    low, high = MIN_PAIRS - 1, MIN_PAIRS
    while paired_t_power(effect, high, level) < power:
        if high >= MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:  # power grows with the number of seeds
        middle = (low + high) // 2
        low, high = (low, middle) if paired_t_power(effect, middle, level) >= power else (middle, high)
    return high


def deviation_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the standard deviation of normal values and its confidence bounds, by the chi-square distribution."""
    deviation, df = float(np.std(values, ddof=1)), len(values) - 1
    tails = stats.chi2.ppf([(1 + confidence) / 2, (1 - confidence) / 2], df)
    low, high = (deviation * math.sqrt(df / tail) for tail in tails)
    return deviation, low, high
