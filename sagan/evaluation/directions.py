"""Which of the recorded values are scores, and which direction of a score is better."""

import re

LOWER_IS_BETTER = ("fid", "kid", "intra_fid", "agreement_gap")


def lower_is_better(metric: str) -> bool:
    """Return whether a smaller score is better: true of distances and gaps, false of all other scores."""
    return metric.startswith(LOWER_IS_BETTER)


def direction(metric: str) -> str:
    """Return "lower is better", "higher is better", or that neither is."""
    if metric == "agreement_chance":  # says what a gap is to be compared with
        return "neither direction is better"
    return "lower is better" if lower_is_better(metric) else "higher is better"


def is_score(column: str) -> bool:
    """Return whether a column is a score, not its spread over subsets, splits or draws, nor a number of images."""
    return not re.search(r"_std(_|$)|_n(_|$)|_noise$", column)
