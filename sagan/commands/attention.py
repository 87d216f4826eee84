"""`sagan attention`: draw where the networks attend."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sagan.commands.options import (
    Checkpoint,
    Classes,
    DataOptions,
    Device,
    Ema,
    Flat,
    Given,
    Run,
    TrustModule,
)
from sagan.config import ConfigError, DataConfig, updated
from sagan.config.types import FilePath, Fraction, NonNegative, Positive, as_text
from sagan.runtime.files import check_writable
from sagan.runtime.wording import printable

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".pdf")

Point = tuple[int, int]  # y, x
Network = Literal["generator", "discriminator"]


@dataclass(frozen=True)
class Options:
    """Which maps to draw, for which images and points."""

    queries: Annotated[list[str], Parameter(consume_multiple=(1, None))] = field(default_factory=lambda: ["auto"])
    """Points y,x in pixels on every image, one or more (8,8 20,14); auto: five on distinct parts of each image."""
    network: Network | None = None
    """null: both, with the discriminator on generated and on real images."""
    layer: str | None = None
    """Name of one layer, such as blocks.1.attention; null: all."""
    num: Positive = 4
    """Number of images."""
    classes: Classes | None = None
    """Classes of the images in turn, by number or name; null: spread over all."""
    seed: NonNegative = 0
    """Seed of the latent vectors: for a seed, image i has the same latent vector in every run."""
    images: FilePath | None = None
    """Folder of your own images, to see what the discriminator does with them. Class folders or --classes give their
    classes."""
    ablate_layer: str | None = None
    """Draw the generator's images with and without this layer (such as blocks.1.attention, or all), and the difference,
    in place of its maps."""
    minus: str | None = None
    """Run or checkpoint whose maps to subtract, for the same latent vectors, classes and images."""
    animate: Literal["webp", "gif"] | None = None
    """Draw an animation with a frame for each checkpoint of the run."""
    scale: Literal["zero", "shared", "stretch"] = "zero"
    """Range of the colours. zero: from 0 to the largest weight of each panel (or four times the uniform weight if that
    is more); shared: to the largest of all panels; stretch: each panel's own range."""
    outline: Fraction = 0.5
    """Share of the weight inside the white outline."""
    out: FilePath | None = None
    """Folder to write; null: attention/ in the run directory, or in the working directory for a single file. FILE.html:
    instead, one page with the interactive view of every checkpoint of the run."""
    checkpoint: Checkpoint = None
    ema: Ema = True
    device: Device = "auto"
    trust_module: TrustModule = field(default_factory=list)


def attention(
    run: Run, /, *, given: Given, options: Flat[Options] = Options(), data: DataOptions = DataConfig()
) -> None:
    """Draw attention maps: where query points attend. Gates are drawn as bars (per channel) or masks (per position).

    The generator's maps are drawn on its images. The discriminator's are drawn on the same images, and on real ones if
    the run's data, or the data that --data options name, can be opened. The name of every file written is printed.

    examples:
      sagan attention runs/quickstart     # five points per image
      sagan attention runs/quickstart --queries 8,8 20,14 --classes [0,3]
      sagan attention runs/quickstart --data.source shapes --out maps
      sagan attention runs/quickstart --animate webp  # a frame per checkpoint
      sagan attention runs/quickstart --out maps.html # a page to explore
      sagan attention runs/quickstart --ablate_layer all  # and without it
    """
    points = query_points(options.queries)
    asked = given.starting("data.")
    check_together(options)
    check_data(options, [setting.key for setting in asked])
    if options.out:
        if Path(options.out).suffix.lower() in PICTURES:
            raise ConfigError(f"--out {options.out}: expected a folder for pictures, or a page that ends in .html")
        check_writable(Path(options.out), "--out", folder=not wants_page(options))
    from sagan.commands.attention_output import draw
    from sagan.data import may_download
    from sagan.runs.networks import trust
    from sagan.runs.saved_networks import load_run_config
    from sagan.viewing import subjects

    trust(options.trust_module)
    saved, settings = load_run_config(run, options.checkpoint).data, given.of(DataConfig, "data.")
    real = subjects.RealData(
        updated(saved, settings),
        required=bool(asked),
        download=may_download(settings, saved),
        named_by=None if given.starting("data.source") else run,
    )
    for line in draw(run, options, points, real):
        print(printable(line))


def check_together(options: Options) -> None:
    """Raise ConfigError if options contradict each other."""
    if options.animate and options.checkpoint:
        raise ConfigError(f"--checkpoint {options.checkpoint}: --animate {options.animate} draws every checkpoint")
    if options.animate and wants_page(options):
        raise ConfigError(f"--out {options.out}: a page always shows every checkpoint; omit --animate")
    if options.images and options.network == "generator":
        raise ConfigError(f"--images {options.images}: only the discriminator takes images, not --network generator")
    alone = "--ablate_layer" if options.ablate_layer else f"--out {options.out}" if wants_page(options) else ""
    for name in ("queries", "scale", "outline") if alone else ():
        if (value := getattr(options, name)) != getattr(Options(), name):
            raise ConfigError(f"--{name} {as_text(value)}: does not apply to {alone}")
    for name in ("ablate_layer", "minus"):
        value = getattr(options, name)
        if value and (options.animate or wants_page(options)):
            other = f"--animate {options.animate}" if options.animate else f"--out {options.out}"
            raise ConfigError(f"--{name} {value}: makes a picture of one step, so it cannot be combined with {other}")
    maps_of = f"--layer {options.layer}" if options.layer else ""
    maps_of = maps_of or ("--network discriminator" if options.network == "discriminator" else "")
    if options.ablate_layer and maps_of:
        raise ConfigError(f"{maps_of}: does not apply to --ablate_layer, which is about the generator")
    if options.ablate_layer and (other := options.images and "--images" or options.minus and "--minus"):
        raise ConfigError(f"--ablate_layer {options.ablate_layer}: shows generated images alone, without {other}")


def check_data(options: Options, asked: list[str]) -> None:
    """Raise ConfigError if options about inputs are given that no picture would use; `asked` are those of the data."""
    if asked and shown_network(options) == "generator":
        alone = "--ablate_layer" if options.ablate_layer else "--network generator"
        raise ConfigError(f"--{asked[0]}: {alone} shows generated images only, and no data")
    if options.images:
        unused = [f"--{key}" for key in asked if key in ("data.source", "data.path")]
        unused += [f"--seed {options.seed}"] if options.seed != Options().seed else []
        unused += ["--no-ema"] if not options.ema else []
        if unused:
            raise ConfigError(f"{unused[0]}: does not apply to --images {options.images}, which D is shown alone")


def shown_network(options: Options) -> Network | None:
    """Return the only network that the pictures are about, or None for both."""
    return "generator" if options.ablate_layer else "discriminator" if options.images else options.network


def query_points(words: list[str]) -> list[Point] | None:
    """Return the points of `--queries`, such as 8,8 20,14; None for auto. Raise ConfigError."""
    if words == ["auto"]:
        return None
    points = [re.fullmatch(r"(\d+),(\d+)", word) for word in words]
    if not all(points):
        raise ConfigError(
            f"--queries {' '.join(words)}: expected auto, or points y,x in pixels of the image, such as 8,8 20,14"
        )
    return [(int(point[1]), int(point[2])) for point in points if point]


def wants_page(options: Options) -> bool:
    """Return whether `--out` names a page rather than a folder."""
    return options.out is not None and Path(options.out).suffix.lower() in (".html", ".htm")
