"""Two ways to get scores: a generator against a data set, and one folder of images against another."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from sagan.config import EvaluationConfig
from sagan.data.dataset import distinct
from sagan.evaluation.agreement import agreement_scores
from sagan.evaluation.extractors import Extractor
from sagan.evaluation.features import Features, extract
from sagan.evaluation.folder import FolderImages
from sagan.evaluation.reference import Images, Reference, reference
from sagan.evaluation.scores import MAX_MANIFOLD, Scores, score_features
from sagan.runtime.device import full_float32
from sagan.runtime.distributed import run_on_main
from sagan.runtime.draws import labels
from sagan.runtime.wording import counted
from sagan.version import __version__

SCORES = "computes the scores"
Sample = Callable[[int, int, Tensor | None], Tensor]
"""(start, stop, y) -> uint8 images (stop - start, C, H, W) for sample indices start..stop-1 and classes y (int64, CPU).

Draw z per index (`sagan.runtime.draws.latents`), so that neither batch size nor number of processes matters.
"""


def evaluate(
    sample: Sample,
    *,
    num_classes: int,
    class_names: Sequence[str] | None = None,
    real: Images,
    extractor: Extractor,
    config: EvaluationConfig,
    split: str = "train",
    protocol: dict[str, Any] | None = None,
) -> Scores:
    """Return the scores of `config.num_samples` generated images, with uniform labels, against the real ones.

    Call it in all processes of a group: each generates and measures its share, and all get the scores. `num_classes` is
    the generator's (0: unconditional, y is None), and `class_names` are its classes, if they are known: the FID within
    classes requires those of the data. `protocol` adds what only the caller knows, such as the step and
    whether the weights are averages.
    """
    n = config.num_samples
    y = labels(config.seed, "evaluation labels", 0, n, num_classes)
    known = reference(real, split, config.num_real, extractor, config.batch_size)
    with full_float32(extractor.device):  # a generator's convolutions, too: scores do not depend on the device
        made = extract(
            lambda start, stop: sample(start, stop, None if y is None else y[start:stop]),
            n,
            extractor,
            config.batch_size,
            "generated images",
            real.rule,
        )
    facts = {"seed": config.seed, "truncation": config.truncation, **(protocol or {})}
    other_classes = difference_of_classes(num_classes, class_names, real.class_names)
    return run_on_main(lambda: compare(known, made, y, other_classes, real, split, extractor, facts), SCORES)


def compare_folders(real_dir: str, fake_dir: str, extractor: Extractor, batch_size: int = 64) -> Scores:
    """Return the scores of the images in and below one folder against those of another, without resizing or labels.

    Raise UserError as `FolderImages` does.
    """
    return compare_images(FolderImages(real_dir, "--real"), FolderImages(fake_dir, "--fake"), extractor, batch_size)


def compare_images(real: FolderImages, fake: FolderImages, extractor: Extractor, batch_size: int = 64) -> Scores:
    """Return the scores of the images of one folder against those of another.

    Call it in all processes of a group, like `evaluate`.
    """
    known = reference(real, "folder", 0, extractor, batch_size)
    made = extract(
        lambda start, stop: fake.batch(torch.arange(start, stop)), len(fake), extractor, batch_size, "images to compare"
    )
    facts = {"fake_data": fake.fingerprint, "fake_size": "x".join(map(str, fake.size))}
    if real.resized_to:
        facts["images"] = f"centre-cropped and resized to {'x'.join(map(str, real.resized_to))}, bicubic antialiased"
    return run_on_main(lambda: compare(known, made, None, "", real, "folder", extractor, facts), SCORES)


def difference_of_classes(num_classes: int, class_names: Sequence[str] | None, real_names: Sequence[str]) -> str:
    """Return how the classes of a generator differ from those of the data, in words; nothing if they are the same."""
    if num_classes != len(real_names):
        return f"the generator has {counted(num_classes, 'class', 'classes')}, the data {len(real_names)}"
    own_names = distinct(class_names) if class_names else real_names  # older versions kept repeated names
    for number, (own, other) in enumerate(zip(own_names, real_names, strict=True)):
        if own != other:
            return f"class {number} is {own!r} of the generator and {other!r} of the data"
    return ""


def compare(
    known: Reference | None,
    made: Features | None,
    y: Tensor | None,
    other_classes: str,
    real: Images,
    split: str,
    extractor: Extractor,
    facts: dict[str, Any],
) -> Scores:
    """Return the scores and their protocol. Call it on rank 0: elsewhere, `known` and `made` are None.

    `other_classes` says why there is no FID within classes, if the classes are not those of the data.
    """
    assert known is not None and made is not None
    n_real, n_fake = len(known.values), len(made.values)
    protocol = {
        "extractor": extractor.name,
        "weights": extractor.weights_sha256,
        "resize": extractor.resize,
        "data": real.fingerprint,
        "split": split,
        "size": "x".join(map(str, real.size)),
        "n_real": n_real,
        "n_fake": n_fake,
        **facts,
        "sagan": __version__,
        **{package: version(package) for package in ("torch", "torch-fidelity")},
    }
    if max(n_real, n_fake) > MAX_MANIFOLD:
        protocol["precision_recall_n"] = f"{min(n_real, MAX_MANIFOLD)} real, {min(n_fake, MAX_MANIFOLD)} generated"
    measured = score_features(known, made, None if other_classes else y, real.class_names, extractor.name)
    if other_classes:
        measured["left_out"].append(f"intra-class FID: {other_classes}")
    if real.rule is not None and made.parts is not None:
        protocol["rule"] = real.rule.name
        values, left_out = agreement_scores(made.parts, real.rule)
        measured["values"] |= values
        measured["left_out"] += left_out
    return Scores(protocol=protocol, **measured)
