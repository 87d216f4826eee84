"""Scores with their protocol, and which of them a given number of images supports."""

import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from sagan.evaluation.directions import direction, is_score
from sagan.evaluation.features import Features
from sagan.evaluation.metrics import (
    density_coverage,
    fid,
    inception_score,
    intra_fid,
    kid,
    moments,
    precision_recall,
)
from sagan.evaluation.reference import Reference
from sagan.runtime.draws import rng_for
from sagan.runtime.wording import counted

MEASURES = ("fid", "kid_mean", "is_mean", "precision", "recall", "density", "coverage", "intra_fid")
RULE_MEASURES = ("agreement", "agreement_gap", "agreement_chance", "agreement_both_parts")  # whatever the extractor
SPLITS = 10
PER_SPLIT = 10  # images; an inception score cannot exceed the number of images in a split
PER_CLASS = 100  # images; with fewer, an intra-class FID is mostly bias
NEIGHBOURS = 3  # precision and recall
DENSITY_NEIGHBOURS = 5  # density and coverage
FEWEST = {
    "fid": 2,
    "kid_mean": 2,
    "is_mean": SPLITS * PER_SPLIT,
    "precision": NEIGHBOURS + 1,
    "recall": NEIGHBOURS + 1,
    "density": DENSITY_NEIGHBOURS + 1,
    "coverage": DENSITY_NEIGHBOURS + 1,
    "intra_fid": PER_CLASS,
}
"""Images of each kind that a measure needs; for intra_fid, of each class."""
MAX_MANIFOLD = 10_000  # images of each kind for these four, whose time and memory grow with their square


@dataclass(frozen=True)
class Scores:
    """The scores of a network, their protocol, and why some scores are missing or doubtful."""

    values: dict[str, float]
    """`fid`, `is_mean`, ...; other extractors than Inception are part of the name: `fid_efficientnet_lite0`."""
    protocol: dict[str, Any]
    """Everything that a score depends on."""
    intra_fid: dict[str, float] = field(default_factory=dict)
    """Class -> FID."""
    left_out: list[str] = field(default_factory=list)
    """Metrics that these images do not support, each with the reason."""
    warnings: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return all scores and their protocol in one line, with digests cut to 12 digits."""
        values = ", ".join(f"{name} {value:.5g}" for name, value in self.values.items())
        protocol = ", ".join(f"{name} {_short(value)}" for name, value in self.protocol.items())
        return f"{values or 'no score'} | {protocol}"

    def notes(self) -> list[str]:
        """Return a line for each warning and each metric left out."""
        return [f"warning: {text}" for text in self.warnings] + [f"left out: {text}" for text in self.left_out]

    def table(self) -> list[str]:
        """Return a line for each score: its name as in `metrics.jsonl`, its value and spread, the better direction."""
        rows = [(name, f"{v:.5g}{self._spread(name)}", direction(name)) for name, v in self._scores().items()]
        widths = [max(len(row[i]) for row in rows) for i in range(2)] if rows else []
        return [f"{name:<{widths[0]}}  {value:<{widths[1]}}  {better}" for name, value, better in rows]

    def report(self) -> str:
        """Return the table, then the protocol with a `name: value` on each line, then the notes."""
        protocol = [f"{name}: {_short(value)}" for name, value in self.protocol.items()]
        protocol += [f"{name}: {value:g}" for name, value in self.values.items() if re.search(r"_n(_|$)", name)]
        parts = [self.table() or ["no score"], protocol, self.notes()]
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

    def _scores(self) -> dict[str, float]:
        return {name: value for name, value in self.values.items() if is_score(name)}

    def _spread(self, name: str) -> str:
        """Return the standard deviation that belongs to a mean, such as " ± 0.01", or nothing."""
        std = self.values.get(re.sub(r"_mean(?=_|$)", "_std", name)) if "_mean" in name else None
        return "" if std is None else f" ± {std:.2g}"

    def record(self) -> dict[str, Any]:
        """Return what `metrics.jsonl` holds: the values at top level, all else under `evaluation`."""
        rest = asdict(self)
        return {**rest.pop("values"), "evaluation": rest}


def comparable_terms(protocol: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a protocol that two scores must share to be compared.

    The step may differ, because it is what a curve varies. Versions of this program and of torch change scores by
    rounding at most.
    """
    return {name: value for name, value in protocol.items() if name not in ("step", "sagan", "torch")}


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", str(value))


def score_features(
    real: Reference, fake: Features, fake_labels: Tensor | None, class_names: list[str], name: str
) -> dict[str, Any]:
    """Return the fields of `Scores` except its protocol, from features; `name` is the extractor's.

    With `fake_labels` (n,), also compute intra-class FID. Metrics that need more images are left out.
    """
    values: dict[str, float] = {}
    left_out: list[str] = []
    per_class: dict[str, float] = {}
    n_real, n_fake = len(real.values), len(fake.values)
    found = f"{n_real} real and {counted(n_fake, 'generated image')}"

    if min(n_real, n_fake) < FEWEST["fid"]:
        left_out.append(f"FID and KID: {found}, 2 of each needed")
    else:
        values["fid"] = fid(real.moments, moments(fake.values))
        values["kid_mean"], values["kid_std"] = kid(real.values, fake.values)
        if math.isnan(values["kid_std"]):
            del values["kid_std"]
            left_out.append("KID std: so few images are a single subset")

    if fake.logits is None:
        left_out.append(f"inception score: {name} has no class logits")
    elif n_fake < FEWEST["is_mean"]:
        left_out.append(
            f"inception score: {counted(n_fake, 'generated image')}, {FEWEST['is_mean']} needed for {SPLITS} splits"
        )
    else:
        values["is_mean"], values["is_std"] = inception_score(fake.logits, SPLITS)

    few_real, few_fake = some(real.values, "real"), some(fake.values, "fake")
    if min(n_real, n_fake) < FEWEST["precision"]:
        left_out.append(f"precision and recall: {found}, {FEWEST['precision']} of each needed")
    else:
        values["precision"], values["recall"] = precision_recall(few_real, few_fake, NEIGHBOURS)
    if min(n_real, n_fake) < FEWEST["density"]:
        left_out.append(f"density and coverage: {found}, {FEWEST['density']} of each needed")
    else:
        values["density"], values["coverage"] = density_coverage(few_real, few_fake, DENSITY_NEIGHBOURS)

    if fake_labels is not None and (reason := missing_classes(real.labels, fake_labels, class_names)):
        left_out.append(f"intra-class FID: {reason}")
    elif fake_labels is not None:
        intra = intra_fid(real.values, real.labels, fake.values, fake_labels)
        values["intra_fid"], values["intra_fid_n"] = intra.mean, intra.n
        per_class = {class_names[c]: value for c, value in intra.per_class.items()}

    return {
        "values": {key + suffix(name): value for key, value in values.items()},
        "intra_fid": per_class,
        "left_out": left_out,
        "warnings": too_few(n_real, n_fake, fake.values.shape[1], name),
    }


def suffix(extractor: str) -> str:
    """Return the suffix of an extractor's score names: empty for the network of published scores."""
    return "" if extractor == "inception" else "_" + re.sub(r"\W", "_", extractor)


def some(values: Tensor, kind: str) -> Tensor:
    """Return at most MAX_MANIFOLD rows, always the same ones."""
    if len(values) <= MAX_MANIFOLD:
        return values
    order = torch.randperm(len(values), generator=rng_for(0, f"manifold {kind}", len(values)))
    return values[order[:MAX_MANIFOLD]]


def missing_classes(real_labels: Tensor, fake_labels: Tensor, class_names: list[str]) -> str | None:
    """Return why there is no intra-class FID, or None: each class needs PER_CLASS images on both sides."""
    for kind, labels in (("real", real_labels), ("generated", fake_labels)):
        counts = torch.bincount(labels, minlength=len(class_names))
        if counts.min() < PER_CLASS:
            rarest = class_names[int(counts.argmin())]
            return (
                f"class {rarest!r} has {counted(int(counts.min()), f'{kind} image')}, {PER_CLASS} of each class needed"
            )
    return None


def too_few(n_real: int, n_fake: int, feature_dim: int, name: str) -> list[str]:
    """Return a warning for each side with fewer images than features, whose singular covariance makes FID too large."""
    return [
        f"{n} {kind} images are fewer than the {feature_dim} features of {name}: FID is biased upwards. "
        "Compare it only at equal n, or use KID"
        for kind, n in (("real", n_real), ("generated", n_fake))
        if n < feature_dim
    ]
