"""Options of the verbs besides the configuration of a run. Importing this module does not import torch."""

from dataclasses import dataclass, field
from typing import Literal

from sagan.config import ExtractorConfig


@dataclass(frozen=True)
class SampleOptions:
    """What to generate."""

    checkpoint: str | None = None
    """best, or a checkpoint file; null: the newest of the run."""
    num: int | None = None
    """Images, or with --interpolate images in a row; null: ten of each class, ten in a row."""
    classes: list[int] | None = None
    """Numbers of the classes; null: all (the first ten in a picture)."""
    seed: int = 0
    """Image i of a seed and a choice of classes is always the same, whatever num and batch_size are."""
    truncation: float = 0.0
    """Redraw entries of z beyond this many standard deviations; 0: never."""
    interpolate: Literal["z", "classes"] | None = None
    """Rows that go from one latent vector to another, or from one class to the next."""
    out: str | None = None
    """FILE.png: one grid; FILE.npz: arrays images (N, H, W, C) and labels; else a folder of PNG files."""
    nearest: str | None = None
    """Training images to show beside each sample: a folder, a packed data set, or shapes, cifar10, ..."""
    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    """Whose features say what is near, beside pixels."""
    ema: bool = True
    """The moving average of the generator, where there is one, not the generator itself."""
    standing_statistics: int = 0
    """Batches over which the statistics of batch norm are taken anew first; 0: the running ones."""
    batch_size: int = 64
    """Images at a time."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU where there is one."""


@dataclass(frozen=True)
class EvaluateOptions:
    """What is compared with what."""

    checkpoint: str | None = None
    """best, or a checkpoint file; null: the newest of the run."""
    split: str = "train"
    """Part of the data to compare with: train or test, where the source has both."""
    real: str | None = None
    """Folder of real images, instead of a run's data."""
    fake: str | None = None
    """Folder of generated images, instead of a run's."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU where there is one."""


@dataclass(frozen=True)
class AttentionOptions:
    """Whose maps are drawn, and for which images and points."""

    checkpoint: str | None = None
    """best, or a checkpoint file; null: the newest of the run."""
    queries: str = "auto"
    """Points y,x in pixels, one or more (8,8 20,14), on every image; auto: five, on distinct parts of each image."""
    network: Literal["generator", "discriminator"] | None = None
    """null: both, the discriminator on generated and on real images."""
    layer: str | None = None
    """Name of one layer, such as blocks.1.attention; null: all."""
    num: int = 4
    """Images."""
    classes: list[int] | None = None
    """Numbers of their classes, in turn; null: spread over all."""
    seed: int = 0
    """Of the latent vectors: image i of a seed is the same for every run."""
    ema: bool = True
    """The moving average of the generator, where there is one, not the generator itself."""
    animate: Literal["webp", "gif"] | None = None
    """A moving picture instead, with a frame for each checkpoint of the run."""
    out: str | None = None
    """Folder to write; null: attention/ in the run directory, or here for a file on its own."""
    device: str = "auto"
    """cpu, cuda, ...; auto: a GPU where there is one."""


@dataclass(frozen=True)
class ExportOptions:
    """What to write, and where."""

    checkpoint: str | None = None
    """best, or a checkpoint file; null: the newest of the run."""
    out: str | None = None
    """Folder to write; null: export/ in the run directory, or beside the checkpoint."""


@dataclass(frozen=True)
class AblateOptions:
    """How much of a plan is run, and by whom."""

    size: str | None = None
    """One of the plan's sizes; null: its first."""
    seeds: list[int] | None = None
    """Only these of the plan's are run; null: all."""
    variants: list[str] | None = None
    """Only these are run; null: all. The report has what there is of all of them."""
    jobs: int = 1
    """Runs at once (with ray: on each machine). They share the cores; each has a GPU where there are several."""
    executor: Literal["local", "ray"] = "local"
    """local: processes on this machine. ray: the cluster of $RAY_ADDRESS, or one started here."""
    report_only: bool = False
    """Write the report from what is there, and train nothing."""
    power: bool = False
    """Say how large a difference the plan's seeds can show, from earlier results or power_sd, and train nothing."""
    power_sd: float | None = None
    """Standard deviation of paired differences, in units of the plan's metric; null: that of the results."""
    power_difference: float | None = None
    """A difference that the plan should be able to show: says how many seeds it needs."""


@dataclass(frozen=True)
class PackOptions:
    """Where the packed data set goes."""

    out: str | None = None
    """Folder to write; it must not exist, or hold a packed data set."""


@dataclass(frozen=True)
class BenchOptions:
    """What becomes of the measurements."""

    json: str | None = None
    """File to write them to, besides the terminal."""


@dataclass(frozen=True)
class AttentionBenchOptions:
    """Which attention systems are measured, on what."""

    batch: int = 8
    """Images, 2 or more."""
    channels: int = 256
    """Width of the map."""
    sizes: list[int] = field(default_factory=lambda: [16, 32])
    """Sides of the square maps, in pixels."""
    kinds: list[str] | None = None
    """Kinds, or paths of classes of yours; null: all."""
    device: str = "cpu"
    """cpu, cuda, ...; auto: a GPU where there is one."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of the activations."""
    threads: int = 1
    """Of a CPU; waiting for each other counts as work."""
    repeats: int = 7
    """Passes, of which the best time is shown."""
