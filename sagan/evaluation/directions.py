"""Which of the recorded values are scores, and which direction of a score is better."""

import re

LOWER_IS_BETTER = ("fid", "kid", "intra_fid", "agreement_gap")
UNDIRECTED = ("agreement_chance",)  # what `agreement_gap` is measured against


def lower_is_better(metric: str) -> bool | None:
    """Return True for distances and gaps, None if neither direction is better, False for all other scores."""
    return None if metric in UNDIRECTED else metric.startswith(LOWER_IS_BETTER)


def direction(metric: str) -> str:
    """Return "lower is better", "higher is better" or "neither direction is better"."""
    words = {True: "lower is better", False: "higher is better", None: "neither direction is better"}
    return words[lower_is_better(metric)]


def is_score(column: str) -> bool:
    """Return whether a column is a score, rather than a spread or a number of images."""
    return not re.search(r"_std(_|$)|_n(_|$)|_noise$", column)
