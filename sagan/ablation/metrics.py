"""What the columns of the tables are called where people read, and which direction is better."""

import re

LOWER_IS_BETTER = ("fid", "kid", "intra_fid", "agreement_gap")
NAMES = {
    "fid": "Fréchet distance",
    "kid_mean": "KID",
    "is_mean": "Inception score",
    "precision": "precision",
    "recall": "recall",
    "intra_fid": "intra-class Fréchet distance",
    "agreement_gap": "gap between the parts",
    "agreement_chance": "gap at chance",
    "agreement_both_parts": "share of images with both parts",
}
PUBLISHED = {"fid": "FID", "intra_fid": "intra-class FID"}  # only with the Inception network
EXTRACTORS = {"_efficientnet_lite0": "EfficientNet-lite0"}


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


def readable(metric: str) -> str:
    """Return a metric's name for people, such as "KID (EfficientNet-lite0)"; an unknown one without underscores."""
    for suffix, extractor in EXTRACTORS.items():
        if metric.endswith(suffix):
            measure = metric.removesuffix(suffix)
            return f"{NAMES.get(measure, measure.replace('_', ' '))} ({extractor})"
    return PUBLISHED.get(metric) or NAMES.get(metric) or metric.replace("_", " ")
