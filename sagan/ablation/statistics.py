"""Decisions from paired scores: t tests, Holm's correction, equivalence, and the intervals that agree with them.

Pure functions of numbers. `differences` are always a variant's scores minus the baseline's with the same seeds.

Sources: Holm 1979 (step-down correction); Schuirmann 1987 (two one-sided tests).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from sagan.runtime.wording import counted

ALPHA = 0.05
"""Chance of at least one false verdict of a kind among all primary comparisons."""
MIN_PAIRS = 5
"""Seeds that a verdict needs. With fewer, the t test detects only differences of several standard deviations."""


class Interval(NamedTuple):
    """A mean and its confidence bounds, which are NaN if there is no interval."""

    mean: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Return whether the value lies outside the bounds; False if there are none."""
        return value < self.low or value > self.high

    def within(self, margin: float) -> bool:
        """Return whether both bounds lie strictly between -margin and margin; False if there are none."""
        return -margin < self.low and self.high < margin


@dataclass(frozen=True)
class Decision:
    """The result of one primary comparison."""

    outcome: Literal["lower", "higher", "equal", "undecided"]
    """Sign of the difference if the test rejects 0; "equal" if it only rejects a difference as large as the margin."""
    within_margin: bool
    """Whether the equivalence test rejects, which it may do even if the difference is not 0."""
    p: float
    """p value of the paired t test, adjusted by Holm's method: at most ALPHA exactly if the test rejects."""
    confidence: float
    """Confidence of `interval`: 1 minus the level at which Holm's method tested this comparison."""
    interval: Interval
    """Interval of the mean difference. It excludes 0 exactly if the outcome is lower or higher."""
    equivalence: Interval | None
    """Interval that lies within the margin exactly if `within_margin`; None without a margin."""


def mean_interval(values: Sequence[float], confidence: float = 1 - ALPHA) -> Interval:
    """Return the mean and its confidence interval by Student's t; the bounds of fewer than two values are NaN."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(special.stdtrit(len(values) - 1, (1 + confidence) / 2)) * standard_error(values)
    return Interval(mean, mean - half, mean + half)


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def paired_p(differences: Sequence[float]) -> float:
    """Return the two-sided p value of the paired t test of mean 0."""
    return min(1.0, 2 * _upper_tail(abs(float(np.mean(differences))), differences))


def equivalence_p(differences: Sequence[float], margin: float) -> float:
    """Return the p value of two one-sided t tests: small if the mean lies between -margin and margin."""
    return _upper_tail(margin - abs(float(np.mean(differences))), differences)


def _upper_tail(distance: float, differences: Sequence[float]) -> float:
    """Return P(T >= distance / standard error) for Student's t with len(differences) - 1 degrees of freedom."""
    error = standard_error(differences)
    if error == 0:
        return 0.0 if distance > 0 else 0.5 if distance == 0 else 1.0
    return float(special.stdtr(len(differences) - 1, -distance / error))


def holm_levels(p_values: Sequence[float], alpha: float = ALPHA) -> list[float]:
    """Return the level at which Holm's method tests each hypothesis: it rejects if p is at most that level.

    The smallest of m p values is tested at alpha / m, the next at alpha / (m - 1), and so on. Once a hypothesis is not
    rejected, neither are those with larger p values; they get the same level, which they also exceed.
    """
    levels, level, rejecting = [0.0] * len(p_values), alpha, True
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        if rejecting:
            level = alpha / (len(p_values) - rank)
            rejecting = p_values[index] <= level
        levels[index] = level
    return levels


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values: each is the smallest alpha at which its hypothesis is rejected, at most 1."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted


def why_untestable(differences: Sequence[float]) -> str:
    """Return why differences cannot be tested, in words; nothing if they can.

    Equal differences, such as those of scores that are 0 in every run, do not show that there is no spread.
    """
    if len(differences) < MIN_PAIRS:
        return f"{counted(len(differences), 'seed')}, at least {MIN_PAIRS} needed"
    if not np.isfinite(differences).all():
        return "a score is not a number"
    if np.ptp(differences) <= 1e-9 * np.abs(differences).max():  # apart from rounding
        return "all differences are equal"
    return ""


def decide(differences: Mapping[str, Sequence[float]], margin: float | None = None) -> dict[str, Decision | None]:
    """Return the decision on each of a family of primary comparisons.

    A comparison that cannot be tested gets None: see `why_untestable`. It still counts for the correction, because the
    plan determines what is tested, not which runs finished.

    Differences from 0 and equivalence are two families, each tested by Holm's method at ALPHA.
    """
    testable = {k: not why_untestable(d) for k, d in differences.items()}
    p_values = [paired_p(d) if testable[k] else 1.0 for k, d in differences.items()]
    levels, adjusted = holm_levels(p_values), holm_adjusted(p_values)
    equal = [equivalence_p(d, margin) if margin and testable[k] else 1.0 for k, d in differences.items()]
    equal_levels = holm_levels(equal)
    decisions: dict[str, Decision | None] = {}
    for i, (name, values) in enumerate(differences.items()):
        decisions[name] = None
        if testable[name]:
            interval = mean_interval(values, 1 - levels[i])
            sign = "lower" if interval.mean < 0 else "higher"
            within = margin is not None and equal[i] <= equal_levels[i]
            decisions[name] = Decision(
                outcome=sign if p_values[i] <= levels[i] else "equal" if within else "undecided",
                within_margin=within,
                p=adjusted[i],
                confidence=1 - levels[i],
                interval=interval,
                equivalence=None if margin is None else mean_interval(values, 1 - 2 * equal_levels[i]),
            )
    return decisions
