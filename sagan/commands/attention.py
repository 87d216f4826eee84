"""`sagan attention`: draw where the networks attend."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    chosen_classes,
)
from sagan.config import ConfigError, DataConfig, UserError, updated
from sagan.config.types import FilePath, Fraction, NonNegative, Positive, as_text
from sagan.runs.directory import checkpoints, run_directory
from sagan.runtime.files import check_writable
from sagan.runtime.wording import counted, printable

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".pdf")

if TYPE_CHECKING:
    from sagan.models.generator import Generator
    from sagan.viewing.subjects import Networks, RealData, ShownInputs

Point = tuple[int, int]  # y, x


@dataclass(frozen=True)
class Options:
    """Which maps to draw, for which images and points."""

    queries: Annotated[list[str], Parameter(consume_multiple=(1, None))] = field(default_factory=lambda: ["auto"])
    """Points y,x in pixels on every image, one or more (8,8 20,14); auto: five on distinct parts of each image."""
    network: Literal["generator", "discriminator"] | None = None
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
    """Draw attention maps: where points of an image attend, and gates as bars or masks.

    The generator's maps are drawn on its images. The discriminator's are drawn on these and on real images, if the
    run's data, or those that the options name, can be opened. The name of every file written is printed.

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
    if options.network == "generator" and asked:
        raise ConfigError(f"--{asked[0].key}: --network generator shows generated images only, and no data")
    if options.out:
        if Path(options.out).suffix.lower() in PICTURES:
            raise ConfigError(f"--out {options.out}: expected a folder for pictures, or a page that ends in .html")
        check_writable(Path(options.out), "--out", folder=not wants_page(options))
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


def draw(run: str, options: Options, points: list[Point] | None, real: "RealData") -> Iterator[str]:
    """Write what the options ask for: pictures, animations, a page, or a picture without a layer. Yield lines about it.

    The lines are the names of the files, and notes on what has no maps. Raise ConfigError if the options do not fit the
    networks, and UserError if a file cannot be read or written.
    """
    from sagan.models.origin import origin_of
    from sagan.sampling import progress, safe_name
    from sagan.viewing import picture_files, subjects
    from sagan.viewing.overlays import view_queries

    shown = checkpoints_to_show(run, options)
    load = network_loader(options, real)
    networks = load(run, checkpoint=options.checkpoint)
    yield from filter(None, [networks.note])
    check_fit(points, networks.generator)
    if options.layer:
        subjects.require_layer(networks, options.network, options.layer)
    inputs = inputs_of(networks, options, real)
    yield from filter(None, [inputs.note])
    folder = Path(options.out) if options.out else (run_directory(run) or Path()) / "attention"
    if options.ablate_layer:
        yield from picture_files.write_ablation(networks.generator, inputs, options.ablate_layer, folder)
        return

    look = partial(subjects.view_layers, inputs=inputs, network=options.network, layer=options.layer)
    views, minus = look(networks), ""
    yield from subjects.missing_maps(networks, views, options.network)
    if options.minus:
        others = load(options.minus)
        subjects.require_alike(networks, others, f"--minus {options.minus}")
        views, notes = subjects.differences(views, look(others))
        yield from notes
        minus = f"{safe_name(name_of(options.minus))} step {origin_of(others.generator).step}"

    # A run's newest checkpoint alone is loaded already. Several are shown with the same inputs and points.
    found = ((n, look(n)) for n in map(load, shown)) if len(shown) > 1 else [(networks, views)]
    found = progress(found, "checkpoints", len(shown))
    if wants_page(options):
        yield str(picture_files.write_page(name_of(run), found, folder))
        return
    queries = {picture_files.file_stem(v): [points] * len(v.images) if points else view_queries(v) for v in views}
    pictures = picture_files.write_pictures(
        found, queries, folder, scale=options.scale, share=options.outline, minus=minus, animate=options.animate
    )
    yield from map(str, pictures)


def network_loader(options: Options, real: "RealData") -> Callable[..., "Networks"]:
    """Return a function that loads the networks that the options ask for, given a run and perhaps a checkpoint."""
    from sagan.runtime.device import choose_device
    from sagan.viewing.subjects import load_networks

    return partial(
        load_networks,
        "discriminator" if options.images else options.network,
        ema=options.ema,
        device=choose_device(options.device),
        required=real.required,
    )


def inputs_of(networks: "Networks", options: Options, real: "RealData") -> "ShownInputs":
    """Return the inputs that the options ask for: the user's own images, or latent vectors and real images."""
    from sagan.viewing.subjects import choose_inputs, own_images

    classes = chosen_classes(options.classes, networks.generator) if options.classes else None
    if options.images:
        return own_images(networks, options.images, options.num, classes, real.config)
    return choose_inputs(networks, options.num, classes, options.seed, real)


def name_of(run: str) -> str:
    """Return the name of a run, which is that of its directory or of the folder of exported weights."""
    if run.startswith("hf://"):
        return run.removeprefix("hf://")
    return (run_directory(run) or Path(run).absolute().parent).name


def wants_page(options: Options) -> bool:
    """Return whether `--out` names a page rather than a folder."""
    return options.out is not None and Path(options.out).suffix.lower() in (".html", ".htm")


def checkpoints_to_show(run: str, options: Options) -> list[str | Path]:
    """Return the run itself, or all its checkpoints for an animation or a page.

    Raise ConfigError or UserError if there are fewer than two to animate.
    """
    if wants_page(options) and not options.checkpoint and Path(run).is_dir():
        return [*checkpoints(Path(run))]
    if not (animate := options.animate):
        return [run]
    if not Path(run).is_dir():
        raise ConfigError(f"--animate {animate}: {run} is one file; expected a run directory with checkpoints")
    found = checkpoints(Path(run))
    if len(found) < 2:
        raise UserError(
            f"--animate {animate}: {run} has {counted(len(found), 'checkpoint')}, expected at least 2; a "
            "run saves one every checkpoint.every steps and keeps checkpoint.keep of them"
        )
    return [*found]


def check_fit(points: list[Point] | None, generator: "Generator") -> None:
    """Raise ConfigError if a point is outside the images."""
    height, width = generator.size
    for y, x in points or []:
        if y >= height or x >= width:
            raise ConfigError(
                f"--queries {y},{x}: the images are {height}x{width}, expected y up to {height - 1} and x up to "
                f"{width - 1}"
            )
