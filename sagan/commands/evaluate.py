"""`sagan evaluate`: FID, IS, KID, precision, recall, density and coverage of a run, or of two folders."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from annotated_types import Predicate, doc
from cyclopts import Group, Parameter

from sagan.commands.options import Checkpoint, DataOptions, Device, Flat, Given, TrustModule
from sagan.config import ConfigError, DataConfig, EvaluationConfig
from sagan.config.types import FilePath, Positive, as_text
from sagan.runtime.wording import printable

if TYPE_CHECKING:
    from sagan.evaluation import Scores

USEFUL_FOR_FOLDERS = ("real", "fake", "resolution", "device", "batch_size", "extractor.")

SIZE = (Predicate(lambda value: not isinstance(value, list) or len(value) == 2), doc("N or [H, W], each above 0"))


@dataclass(frozen=True)
class Options:
    """What to compare."""

    checkpoint: Checkpoint = None
    split: str = "train"
    """Part of the data to compare with: train or test, if the source has both."""
    real: FilePath | None = None
    """Folder of real images, instead of the run's data."""
    fake: FilePath | None = None
    """Folder of generated images, instead of the run's."""
    ablate_layer: str | None = None
    """Score G without this attention layer (such as blocks.1.attention), or without all."""
    resolution: Annotated[Positive | list[Positive] | None, *SIZE] = None
    """With --real and --fake: crop and resize each image to N or [H, W], as in training; null: do not resize."""
    device: Device = "auto"
    trust_module: TrustModule = field(default_factory=list)


@dataclass(frozen=True)
class Protocol(EvaluationConfig):
    """The options of an evaluation, without those of training."""

    every: Annotated[int, Parameter(parse=False)] = 0


PROTOCOL_GROUP = Group("protocol (default: as in the run)", sort_key=2)
AnyRun = Annotated[str | None, Parameter(help="a run directory, a checkpoint, exported weights or hf://user/name")]
ProtocolOptions = Annotated[Protocol, Parameter(name="*", group=PROTOCOL_GROUP, show_default=False)]


def evaluate(
    run: AnyRun = None,
    /,
    *,
    given: Given,
    options: Flat[Options] = Options(),
    protocol: ProtocolOptions = Protocol(),
    data: DataOptions = DataConfig(),
) -> None:
    """Score a run or a checkpoint against its data, or a folder of images against another.

    Protocol and data options default to those of the run. The scores are printed as a table, followed by everything
    that they depend on, and added to the run's metrics.jsonl.

    examples:
      sagan evaluate runs/cifar10                      # FID and others
      sagan evaluate runs/cifar10 --split test --num_samples 50000
      sagan evaluate runs/cifar10 --extractor.name efficientnet-lite0
      sagan evaluate --real my-images --fake generated  # two folders
      sagan evaluate --real photos --fake generated --resolution 64
    """
    if run is None:
        scores = of_folders(options, protocol, given)
    elif options.real or options.fake:
        raise ConfigError(f"--real and --fake compare two folders; they cannot be combined with the run {run}")
    elif options.resolution:
        size = as_text(options.resolution)
        raise ConfigError(f"--resolution {size}: applies only to --real and --fake; the run {run} has one already")
    else:
        scores = of_run(run, options, given)
    if scores is not None:
        print(printable(scores.report()))


def of_run(run: str, options: Options, given: Given) -> "Scores | None":
    """Return the scores of a run. Its own options apply unless others are given."""
    from sagan.runs.evaluation import evaluate_run
    from sagan.runs.networks import trust

    trust(options.trust_module)
    return evaluate_run(
        run,
        given.of(Protocol),
        given.of(DataConfig, "data."),
        checkpoint=options.checkpoint,
        split=options.split,
        device=options.device,
        ablate_layer=options.ablate_layer,
    )


def of_folders(options: Options, protocol: Protocol, given: Given) -> "Scores | None":
    """Return the scores of one folder against another. Raise ConfigError for a missing folder or a useless option."""
    if not (options.real or options.fake):
        raise ConfigError("RUN is missing: a run, a checkpoint or exported weights; or --real FOLDER and --fake FOLDER")
    if not (options.real and options.fake):
        here, missing = ("--real", "--fake") if options.real else ("--fake", "--real")
        raise ConfigError(f"{here} {options.real or options.fake}: {missing} FOLDER is missing")
    for key in (s.key for s in given.settings if not s.key.startswith(USEFUL_FOR_FOLDERS)):
        raise ConfigError(f"--{key} applies only to a RUN, not to --real {options.real} and --fake {options.fake}")
    from sagan.evaluation import build_extractor
    from sagan.evaluation.evaluate import compare_images
    from sagan.evaluation.folder import FolderImages
    from sagan.runtime.device import choose_device
    from sagan.runtime.distributed import is_main, main_first, process_group, require_agreement

    device = choose_device(options.device)
    size = None if options.resolution is None else DataConfig(resolution=options.resolution).size
    real, fake = FolderImages(options.real, "--real", size), FolderImages(options.fake, "--fake", size)
    with process_group(device):
        with main_first("loads the extractor"):  # one process downloads
            extractor = build_extractor(protocol.extractor, device)
        require_agreement({"--real": real.fingerprint, "--fake": fake.fingerprint})
        scores = compare_images(real, fake, extractor, protocol.batch_size)
        return scores if is_main() else None
