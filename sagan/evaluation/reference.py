"""The real side of a comparison: chosen, measured once, and cached in a file that says exactly what it holds.

A cache that goes by file name alone silently returns features of other images, other weights or another resize. Here
the file contains everything that the numbers depend on, and all of it is compared when the file is read.
"""

import hashlib
import json
import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sagan.config import ConfigError, EvaluationConfig, UserError
from sagan.data.rules import Rule
from sagan.evaluation.extractors import Extractor
from sagan.evaluation.features import extract
from sagan.evaluation.metrics import Moments, moments
from sagan.runtime.distributed import run_on_main
from sagan.runtime.draws import rng_for
from sagan.runtime.files import write_atomically
from sagan.runtime.wording import counted
from sagan.version import __version__

FORMAT = 2  # raise it whenever this module, an extractor or the reading of files computes something else
log = logging.getLogger(__name__)


class Images(Protocol):
    """What the real side must provide: a data set of `sagan.data` or a folder of images does."""

    labels: Tensor  # (n,), int64; all 0 without classes
    class_names: list[str]  # empty without classes
    rule: Rule | None  # what generated images should satisfy

    @property
    def fingerprint(self) -> str: ...  # SHA-256 of the content
    @property
    def size(self) -> tuple[int, int]: ...  # height and width
    def __len__(self) -> int: ...
    def usable(self) -> Tensor: ...  # indices of the images that can be read
    def batch(self, indices: Tensor) -> Tensor: ...  # uint8 (n, C, H, W)


class Reference(NamedTuple):
    """The real side of a comparison: features and labels of n images, and the moments of the features."""

    values: Tensor  # (n, d), float32
    labels: Tensor  # (n,), int64
    moments: Moments


def require_real(num_real: int, count: int, option: str = "num_real") -> None:
    """Raise ConfigError, naming the option, if there are fewer images than requested, or too few for a score."""
    if num_real > count:
        raise ConfigError(f"{option} {num_real}: the data have {counted(count, 'image')}; 0 takes them all")
    if (num_real or count) < 2:
        raise ConfigError(f"{option} {num_real}: a score needs at least 2 real images; the data have {count}")


def require_scorable(evaluation: EvaluationConfig, count: int) -> None:
    """Raise ConfigError, naming the option, if evaluations in training would have too few images of either kind."""
    if not evaluation.every:
        return
    require_real(evaluation.num_real, count, "evaluation.num_real")
    if evaluation.num_samples < 2:
        raise ConfigError(f"evaluation.num_samples {evaluation.num_samples}: a score needs at least 2 generated images")


def choose_real(labels: Tensor, num_real: int) -> Tensor:
    """Return the indices of `num_real` images (0: all), ascending, balanced over classes and always the same.

    Each class is shuffled in a fixed way, and images are taken from the classes in turn. So a smaller choice is part of
    every larger one, and a class that runs out leaves its turns to the others.
    """
    require_real(num_real, len(labels))
    if num_real in (0, len(labels)):
        return torch.arange(len(labels))
    turn = torch.empty(len(labels), dtype=torch.long)
    for c in labels.unique().tolist():
        members = (labels == c).nonzero().squeeze(1)
        shuffled = members[torch.randperm(len(members), generator=rng_for(0, "real", c))]
        turn[shuffled] = torch.arange(len(members))
    deal = (turn * (int(labels.max()) + 1) + labels).argsort()  # by turn, then by class
    return deal[:num_real].sort().values


def reference_key(real: Images, split: str, indices: Tensor, extractor: Extractor) -> dict[str, str]:
    """Return everything that the features of these images depend on."""
    return {
        "format": str(FORMAT),
        "data": real.fingerprint,
        "split": split,
        "size": "x".join(map(str, real.size)),
        "labels": hashlib.sha256(real.labels[indices].numpy().data).hexdigest(),
        "chosen": hashlib.sha256(indices.numpy().data).hexdigest(),
        "n": str(len(indices)),
        "extractor": extractor.name,
        "weights": extractor.weights_sha256,
        "resize": extractor.resize,
        "sagan": __version__,
        "torch-fidelity": version("torch-fidelity"),
    }


def reference(real: Images, split: str, num_real: int, extractor: Extractor, batch_size: int) -> Reference | None:
    """Return features, labels and moments of the real images on rank 0, and None elsewhere.

    They come from the cache, or are computed by all processes. The table takes 4 n d bytes, in memory and on disk. All
    of ImageNet in Inception features is 10 GB: see `num_real`.
    """
    description: dict[str, Any] = {}
    found: Reference | None = None

    def choose() -> tuple[Tensor, bool]:
        nonlocal description, found
        usable = real.usable()
        chosen = usable[choose_real(real.labels[usable], num_real)]
        description = reference_key(real, split, chosen, extractor)
        found = read_reference(cache_file(description), description)
        return chosen, found is not None

    # Only one process, because this may read all images.
    indices, known = run_on_main(choose, "looks for known features of the real images")
    if known:
        return found

    features = extract(
        lambda start, stop: real.batch(indices[start:stop]), len(indices), extractor, batch_size, "real images"
    )
    if features is None:
        return None
    computed = Reference(features.values, real.labels[indices], moments(features.values))
    try:
        write_reference(computed, cache_file(description), description)
    except UserError as error:
        log.warning("real features are not cached, and will be computed again next time: %s", error)
    return computed


def cache_file(description: dict[str, str]) -> Path:
    """Return the cache file for a description, in $SAGAN_CACHE, by default ~/.cache/sagan."""
    folder = Path(os.environ.get("SAGAN_CACHE") or "~/.cache/sagan").expanduser()
    key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
    return folder / f"real-{description['extractor']}-{key[:32]}.safetensors"


def write_reference(reference: Reference, path: Path, description: dict[str, str]) -> None:
    """Write the file, completely or not at all. Raise UserError if that is not possible."""
    tensors = {
        "values": reference.values,
        "labels": reference.labels,
        "mean": reference.moments.mean,
        "cov": reference.moments.cov,
    }
    metadata = {**description, "content": content_digest(tensors)}

    def write(file) -> None:
        try:
            # By name, because a bytes object would double the memory. The digest reveals a torn file.
            save_file(tensors, file.name, metadata=metadata)
        except SafetensorError as error:  # also raised for a full disk
            raise OSError(str(error)) from error

    write_atomically(path, write)


def read_reference(path: Path, description: dict[str, str]) -> Reference | None:
    """Return what `write_reference` wrote for this description; None if the file is missing or holds something else."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        content = metadata.pop("content", None)
        if metadata != description or content != content_digest(tensors):
            raise ValueError("its digest does not match its content")
        m = Moments(len(tensors["values"]), tensors["mean"], tensors["cov"])
        return Reference(tensors["values"], tensors["labels"], m)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        log.warning("%s: real features are computed again (%s)", path, error)
        return None


def content_digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of tensors' values in the order of their names, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()
