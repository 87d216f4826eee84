"""Configuration: frozen dataclasses, read from a preset or YAML file and from dotted overrides.

`load_config` is the one way in. It checks all that text can tell; what only the data can tell (the number of classes)
is checked where they are opened. Importing this module does not import torch.
"""

from dataclasses import dataclass, field
from typing import Any, Literal


class ConfigError(ValueError):
    """An option is unknown, of the wrong type, or in conflict with another; the message names it and its value."""

    exit_code = 2
    """Of the command that it ends."""


class UserError(RuntimeError):
    """Something outside the configuration stops the work: a missing file, a full disk, data that cannot be read."""

    exit_code = 1
    """Of the command that it ends."""


DRAWN = ("shapes", "pairs", "pairs-near", "pairs-pattern")  # sources whose images the program draws


@dataclass(frozen=True)
class DataConfig:
    """Images and labels."""

    source: Literal["shapes", "pairs", "pairs-near", "pairs-pattern",
                    "folder", "packed", "cifar10", "cifar100", "fashion-mnist", "stl10"] = "shapes"  # fmt: skip
    """Where images come from: drawn by the program (shapes, pairs, pairs-near, pairs-pattern), read from disk (folder,
    packed), or downloaded by torchvision on first use (all others)."""
    path: str | None = None
    """Folder of class folders (or of images), packed data set, or where downloads are kept; drawn images have none."""
    resolution: int | list[int] = 32
    """Pixels, N or [H, W]: a*2^n by b*2^n with a and b in 2..7, the larger at least 4, and n in 3..7."""
    channels: Literal[1, 3] = 3
    """1: greyscale. 3: RGB."""
    num_classes: int | None = None
    """Classes; 0: unconditional; null: as many as the data have."""
    flip: bool = False
    """Mirror every other training image, at random."""
    on_error: Literal["raise", "skip"] = "raise"
    """What an image that cannot be read does: stop the run, or be left out and counted."""
    memory_gb: float = 4.0
    """Data sets up to this size (uint8, GiB) live in memory; larger ones are read as they are needed."""
    workers: int = 2
    """Processes that read images of a data set which does not live in memory."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        r = self.resolution
        return (r, r) if isinstance(r, int) else (r[0], r[1])


@dataclass(frozen=True)
class AttentionConfig:
    """Which attention stands where."""

    kind: str = "sagan"
    """none, residual, sagan, multihead, additive, non-local, base-oc, pyramid-oc, asp-oc, se, ge, cbam,
    residual-attention, global-context, eca, coordinate, or the path of a class of yours: my_module.MyAttention."""
    resolutions: list[int] = field(default_factory=lambda: [16])
    """Shorter sides, in pixels, of the maps that get it: after the first block with an output of that size."""
    placement: Literal["between", "in_residual"] = "between"
    """between: after the block's sum, as SAGAN has it. in_residual: on the residual branch, just before the sum."""
    gate: Literal["zero", "none"] = "zero"
    """zero: the identity at first, through a scalar gain that starts at 0. none: as published."""
    options: dict[str, Any] = field(default_factory=dict)
    """The options of that kind."""


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator."""

    channels: int = 64
    """Base width (64 in the paper); each block has a multiple of it."""
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    spectral_norm: bool = True
    """Divide every weight by its largest singular value."""
    init: Literal["xavier", "orthogonal"] = "xavier"
    """Initial weights: Xavier-uniform (the authors) or orthogonal (BigGAN)."""
    z_dim: int = 128
    """Size of the latent vector, drawn from N(0, I)."""
    norm_spectral: bool = False
    """Spectral norm on the gains and biases of conditional batch norm too (StudioGAN; the authors do not)."""
    norm_momentum: float = 0.1
    """Weight of the newest batch in the running statistics of batch norm."""
    norm_eps: float = 1e-5
    """Added to the variance in batch norm."""
    norm_sync: bool = False
    """Take batch statistics over all processes."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator."""

    channels: int = 64
    """Base width (64 in the paper); each block has a multiple of it."""
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    spectral_norm: bool = True
    """Divide every weight by its largest singular value."""
    init: Literal["xavier", "orthogonal"] = "xavier"
    """Initial weights: Xavier-uniform (the authors) or orthogonal (BigGAN)."""


@dataclass(frozen=True)
class ModelConfig:
    """The two networks."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam, for both networks; two learning rates are the paper's TTUR."""

    generator_lr: float = 1e-4
    """Learning rate of G."""
    discriminator_lr: float = 4e-4
    """Learning rate of D."""
    beta1: float = 0.0
    """Decay of Adam's average of gradients."""
    beta2: float = 0.9
    """Decay of Adam's average of squared gradients; 0.9 is the paper's, 0.999 the authors' code's."""
    eps: float = 1e-8
    """Adam's epsilon."""


@dataclass(frozen=True)
class TrainingConfig:
    """How long, on how much, how."""

    steps: int = 100_000
    """Generator updates; each comes after `d_steps` discriminator updates."""
    batch_size: int = 64
    """Images per update, over all processes and micro-batches."""
    seed: int = 0
    """Every random draw is a function of it, a purpose, and a step or an index."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Of activations; weights are float32. auto: bf16 where the device multiplies it natively, else float32."""
    d_steps: int = 1
    """Discriminator updates for each generator update."""
    micro_batches: int = 1
    """Parts in which a batch is computed, to save memory; their gradients are added up."""
    ema_decay: float = 0.999
    """Of the moving average of the generator (0: none), warmed up as min(decay, (1 + t) / (10 + t))."""
    ema_start: int = 0
    """The step at which the average begins; until then it is a copy."""
    diffaugment: list[Literal["color", "translation", "cutout"]] = field(default_factory=list)
    """Differentiable augmentation of real and fake images alike, for small data (Zhao et al. 2020)."""


@dataclass(frozen=True)
class ExtractorConfig:
    """The network whose features are compared."""

    name: str = "inception"
    """inception (FID as published), efficientnet-lite0 (no download), or another extractor of torch-fidelity."""
    weights: str | None = None
    """File with its weights, instead of the usual download."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, on how many images."""

    every: int = 0
    """Steps between evaluations in training; 0: none."""
    num_samples: int = 10_000
    """Generated images."""
    num_real: int = 0
    """Real images, class-balanced and the same each time; 0: all of them."""
    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    batch_size: int = 64
    """Images generated and measured at a time, per process."""
    seed: int = 0
    """Of the latent vectors and labels."""
    ema: bool = True
    """Evaluate the moving average of the generator, not the generator itself."""
    standing_statistics: int = 0
    """Batches over which the statistics of batch norm are taken anew first; 0: the running ones."""
    truncation: float = 0.0
    """Redraw entries of z beyond this many standard deviations; 0: never."""


@dataclass(frozen=True)
class LoggingConfig:
    """How often a run writes about itself."""

    every: int = 50
    """Steps between records of losses and gradients."""
    images_every: int = 1000
    """Steps between sample grids and measurements of singular values."""
    attention_every: int = 1000
    """Steps between records of the attention maps, for the tab in TensorBoard, and of their entropy; 0: none."""


@dataclass(frozen=True)
class CheckpointConfig:
    """How often a run saves itself."""

    every: int = 1000
    """Steps between checkpoints; the last step always has one."""
    keep: int = 3
    """Newest checkpoints that stay; the best one stays besides."""


@dataclass(frozen=True)
class Config:
    """A training run."""

    run_dir: str | None = None
    """Where the run lives; null: runs/<name of the preset or file>."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto: a GPU where there is one."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
