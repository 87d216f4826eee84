"""The options of a training run: frozen dataclasses whose types carry ranges and choices."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from annotated_types import Predicate, doc

from sagan.config.dotted import is_dotted
from sagan.config.errors import ConfigError
from sagan.config.types import (
    Decay,
    FilePath,
    Fraction,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Processes,
    Truncation,
)

Drawn = Literal["shapes", "pairs", "pairs-near", "pairs-pattern"]
Local = Literal["folder", "zip", "packed"]
Downloaded = Literal["cifar10", "cifar100", "fashion-mnist", "stl10"]
Source = Literal[Drawn, Local, "huggingface", Downloaded, "dataset"]
OwnSource = Annotated[
    str,
    Predicate(is_dotted),
    doc(f"one of {', '.join(get_args(Source))}, or the path of a class such as my_module.MyDataset"),
]
DRAWN = get_args(Drawn)
"""Sources whose images the program draws."""
LOCAL = get_args(Local)
"""Sources that are files of one's own."""
STORED = (*LOCAL, "huggingface")
"""Sources that need `data.path`."""
FROM_PYTHON = "dataset"
"""Source of data that a program gives to `sagan.train` or `sagan.evaluate`; no command can open it."""


@dataclass(frozen=True)
class DataConfig:
    """Images and labels."""

    source: Source | OwnSource = "shapes"
    """Source of the images: drawn (shapes, pairs, pairs-near, pairs-pattern), read from disk (folder, zip, packed),
    opened by the package datasets (huggingface), a class of your own (my_module.MyDataset), or downloaded on first use
    (the others)."""
    path: FilePath | None = None
    """Where the images are. folder: a folder of class folders or of images; zip: an archive of either; packed: a packed
    data set; huggingface: a folder or the name of a data set. Downloads go there. Drawn images have none."""
    resolution: int | list[int] = 32
    """Size in pixels, N or [H, W]: a*2^n by b*2^n with a and b in 2..7, the larger at least 4, and n in 3..7."""
    channels: Literal[1, 3] = 3
    """1: greyscale; 3: RGB."""
    num_classes: NonNegative | None = None
    """Number of classes; 0: unconditional; null: as many as the data have."""
    flip: bool = False
    """Mirror each training image with probability 1/2."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do about an unreadable image: stop the run, or skip and count it."""
    memory_gb: NonNegativeFloat = 4.0
    """Keep data sets up to this size (uint8, GiB) in memory; read larger ones as needed."""
    workers: Processes = 2
    """Processes that read images if the data set is not in memory."""

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width in pixels. Raise ConfigError for a list of another length."""
        r = self.resolution
        if isinstance(r, list) and len(r) != 2:
            raise ConfigError(f"data.resolution {r}: expected N or [H, W]")
        return (r, r) if isinstance(r, int) else (r[0], r[1])


@dataclass(frozen=True)
class AttentionConfig:
    """The kind of attention in a network, and its place."""

    kind: str = "sagan"
    """none, residual, sagan, multihead, additive, non-local, base-oc, pyramid-oc, asp-oc, se, ge, cbam,
    residual-attention, global-context, eca, coordinate, or the path of your own class: my_module.MyAttention."""
    resolutions: list[int] = field(default_factory=lambda: [16])
    """Where to put attention: after the first block whose feature map has this shorter side, in pixels."""
    placement: Literal["between", "in_residual"] = "between"
    """between: after the block's sum, as in SAGAN; in_residual: on the residual branch, just before the sum."""
    gate: Literal["zero", "none"] = "zero"
    """zero: start as the identity, through a learned gain that starts at 0; none: as published, but with
    the initial weights of `init`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the kind, each by its name: ...attention.options.NAME."""


@dataclass(frozen=True)
class NetworkConfig:
    """What both networks have."""

    channels: Positive = 64
    """Base width (64 in the paper); the width of each block is a multiple of it."""
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    spectral_norm: bool = True
    """Divide every weight by its largest singular value."""
    init: Literal["xavier", "orthogonal"] = "xavier"
    """Initial weights: Xavier-uniform (the authors) or orthogonal (BigGAN)."""


@dataclass(frozen=True)
class GeneratorConfig(NetworkConfig):
    """The generator G."""

    z_dim: Positive = 128
    """Size of the latent vector, drawn from N(0, I)."""
    norm_spectral: bool = False
    """Apply spectral norm to the gains and biases of conditional batch norm, too (StudioGAN; the authors do not)."""
    norm_momentum: Fraction = 0.1
    """Weight of the newest batch in the running statistics of batch norm."""
    norm_eps: PositiveFloat = 1e-5
    """Added to the variance in batch norm."""
    norm_sync: bool = False
    """Take batch statistics over all processes."""


@dataclass(frozen=True)
class DiscriminatorConfig(NetworkConfig):
    """The discriminator D."""


@dataclass(frozen=True)
class ModelConfig:
    """The two networks."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam, for both networks. Two learning rates are the paper's two-timescale update rule (TTUR)."""

    generator_lr: PositiveFloat = 1e-4
    """Learning rate of G."""
    discriminator_lr: PositiveFloat = 4e-4
    """Learning rate of D."""
    beta1: Decay = 0.0
    """Decay of Adam's average of gradients."""
    beta2: Decay = 0.9
    """Decay of Adam's average of squared gradients: 0.9 in the paper, 0.999 in the authors' code."""
    eps: PositiveFloat = 1e-8
    """Adam's epsilon."""


@dataclass(frozen=True)
class TrainingConfig:
    """Training schedule and batching."""

    steps: Positive = 100_000
    """Generator updates; each follows `d_steps` discriminator updates."""
    batch_size: Positive = 64
    """Images per update, over all processes and micro-batches."""
    seed: NonNegative = 0
    """Seed of the run: every random draw is a function of it, a purpose, and a step or an index."""
    init_from: FilePath | None = None
    """A run, a checkpoint or exported weights to start from: every layer whose shapes match is loaded, and the others
    are listed. null: random weights."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Activation dtype; weights are float32. auto: bf16 if the device is faster with it, else float32, without TF32."""
    performance: Literal["auto", "eager", "compiled", "graphs"] = "auto"
    """How updates run. eager: one operation after another; compiled: by torch.compile; graphs: captured as CUDA graphs.
    auto: eager on a CPU; graphs on a GPU, or eager updates and a warning if they cannot be captured. With norm_sync in
    several processes a failed capture is an error."""
    d_steps: Positive = 1
    """Discriminator updates per generator update."""
    micro_batches: Positive = 1
    """Parts in which a batch is computed, to save memory; their gradients are accumulated. Batch norm in G sees
    one part at a time, so G's gradient is not that of the whole batch."""
    ema_decay: Decay = 0.999
    """Decay of the moving average (EMA) of G, warmed up as min(decay, (1 + t) / (10 + t)); 0: no average."""
    ema_start: NonNegative = 0
    """Step at which the average begins; until then it is a copy."""
    diffaugment: list[Literal["color", "translation", "cutout"]] = field(default_factory=list)
    """Differentiable augmentation of real and generated images, for small data sets (Zhao et al. 2020)."""


@dataclass(frozen=True)
class ExtractorConfig:
    """The network whose features are compared."""

    name: str = "inception"
    """inception (FID as published), efficientnet-lite0 (no download), or another extractor of torch-fidelity."""
    weights: FilePath | None = None
    """File of its weights, instead of the usual download."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure, and on how many images."""

    every: NonNegative = 0
    """Steps between evaluations in training; 0: none."""
    num_samples: Positive = 10_000
    """Number of generated images."""
    num_real: NonNegative = 0
    """Number of real images, class-balanced and always the same; 0: all."""
    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    batch_size: Positive = 64
    """Images generated and measured at a time, per process."""
    seed: NonNegative = 0
    """Seed of the latent vectors and labels."""
    ema: bool = True
    """Evaluate the moving average of G instead of G itself."""
    standing_statistics: NonNegative = 0
    """Batches used to recompute the statistics of batch norm beforehand, from z without truncation; 0: use the running
    statistics."""
    truncation: Truncation = 0.0
    """Redraw entries of z beyond this many standard deviations; 0: never."""


@dataclass(frozen=True)
class LoggingConfig:
    """How often a run records its progress."""

    every: Positive = 50
    """Steps between records of losses, gradient norms and speed."""
    images_every: NonNegative = 1000
    """Steps between sample grids and measurements of singular values; 0: only at the end."""
    attention_every: NonNegative = 1000
    """Steps between records of attention maps and their entropy, for TensorBoard; 0: none."""


@dataclass(frozen=True)
class CheckpointConfig:
    """How often a run saves its state."""

    every: NonNegative = 1000
    """Steps between checkpoints; 0: only at the end. The last step always has one."""
    keep: Positive = 3
    """Number of newest checkpoints to keep; the best one is also kept."""


@dataclass(frozen=True)
class Config:
    """A training run."""

    run_dir: FilePath | None = None
    """Run directory; null: runs/NAME, with the name of the preset or file."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto: a GPU if there is one."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
