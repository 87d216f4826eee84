"""Names of the metrics in tables and figures."""

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


def readable(metric: str) -> str:
    """Return a metric's name for people, such as "KID (EfficientNet-lite0)"; an unknown one without underscores."""
    for suffix, extractor in EXTRACTORS.items():
        if metric.endswith(suffix):
            measure = metric.removesuffix(suffix)
            return f"{NAMES.get(measure, measure.replace('_', ' '))} ({extractor})"
    return PUBLISHED.get(metric) or NAMES.get(metric) or metric.replace("_", " ")
