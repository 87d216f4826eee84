"""Names of the metrics in tables and figures."""

import re

NAMES = {
    "fid": "Fréchet distance",
    "kid_mean": "KID",
    "is_mean": "Inception score",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "intra_fid": "intra-class Fréchet distance",
    "agreement_gap": "gap between the parts",
    "agreement_chance": "gap at chance",
    "agreement_both_parts": "share of images with both parts",
}
PUBLISHED = {"fid": "FID", "intra_fid": "intra-class FID"}  # only with the Inception network
EXTRACTORS = {"efficientnet_lite0": "EfficientNet-lite0", "vgg16": "VGG-16", "clip": "CLIP", "dinov2": "DINOv2"}
NAMED = re.compile(rf"(\w+?)_({'|'.join(EXTRACTORS)})(?:_(\w+))?")  # measure, extractor, its variant


def unit(metric: str) -> str:
    """Return a metric's unit in brackets, or "" if it has none. The gap of `pairs-pattern` is a share of cells."""
    return " (degrees, or share of cells)" if metric in ("agreement_gap", "agreement_chance") else ""


def readable(metric: str) -> str:
    """Return a metric's readable name, such as "KID (EfficientNet-lite0)"; unknown names lose their underscores."""
    name, network = name_and_network(metric)
    return f"{name} ({network})" if network else name


def name_and_network(metric: str) -> tuple[str, str]:
    """Return a metric's readable name and the network of its features, "" for Inception or if it has none."""
    if found := NAMED.fullmatch(metric):
        measure, extractor, variant = found.groups()
        network = " ".join([EXTRACTORS[extractor], *([variant.replace("_", "-")] if variant else [])])
        return NAMES.get(measure, measure.replace("_", " ")), network
    return PUBLISHED.get(metric) or NAMES.get(metric) or metric.replace("_", " "), ""
