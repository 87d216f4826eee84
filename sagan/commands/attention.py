"""`sagan attention`: draw where the networks look."""

import re
from collections.abc import Iterator
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
    may_download,
)
from sagan.config import ConfigError, DataConfig, UserError, updated
from sagan.config.types import FilePath, NonNegative, Positive
from sagan.runs.directory import checkpoints, run_directory
from sagan.runtime.files import check_writable
from sagan.runtime.wording import printable

if TYPE_CHECKING:
    from sagan.models.generator import Generator
    from sagan.viewing.subjects import RealData

Point = tuple[int, int]  # y, x


@dataclass(frozen=True)
class Options:
    """Which maps are drawn, for which images and points."""

    queries: Annotated[list[str], Parameter(consume_multiple=(1, None))] = field(default_factory=lambda: ["auto"])
    """Points y,x in pixels, one or more (8,8 20,14), on every image; auto: five, on distinct parts of each image."""
    network: Literal["generator", "discriminator"] | None = None
    """null: both, the discriminator on generated and on real images."""
    layer: str | None = None
    """Name of one layer, such as blocks.1.attention; null: all."""
    num: Positive = 4
    """Number of images."""
    classes: Classes | None = None
    """Their classes in turn, by number or name; null: spread over all."""
    seed: NonNegative = 0
    """Seed of the latent vectors: image i of a seed has the same one for every run."""
    animate: Literal["webp", "gif"] | None = None
    """Draw an animation with a frame for each checkpoint of the run."""
    out: FilePath | None = None
    """Folder to write; null: attention/ in the run directory, or here for a file on its own."""
    checkpoint: Checkpoint = None
    ema: Ema = True
    device: Device = "auto"
    trust_module: TrustModule = field(default_factory=list)


def attention(
    run: Run, /, *, given: Given, options: Flat[Options] = Options(), data: DataOptions = DataConfig()
) -> None:
    """Draw attention maps: where each of some points of an image looks, and gates as bars or masks.

    The generator's maps are drawn on its images; the discriminator's on these and on real ones, if the run's data, or
    those that the options name, can be opened. Every file written is printed.

    examples:
      sagan attention runs/quickstart     # five points an image
      sagan attention runs/quickstart --queries 8,8 20,14 --classes [0,3]
      sagan attention runs/quickstart --data.source shapes --out maps
      sagan attention runs/quickstart --animate webp  # a frame a checkpoint
    """
    points = query_points(options.queries)
    asked = given.starting("data.")
    if options.network == "generator" and asked:
        raise ConfigError(f"--{asked[0].key}: --network generator shows generated images only, and no data")
    if options.animate and options.checkpoint:
        raise ConfigError(f"--checkpoint {options.checkpoint}: --animate {options.animate} shows all of a run")
    if options.out:
        check_writable(Path(options.out), "--out", folder=True)
    from sagan.runs.networks import load_run_config, trust
    from sagan.viewing import subjects

    trust(options.trust_module)
    saved = load_run_config(run, options.checkpoint).data
    real = subjects.RealData(
        updated(saved, given.of(DataConfig, "data.")), required=bool(asked), download=may_download(given, saved)
    )
    for line in draw(run, options, points, real):
        print(printable(line))


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
    """Write a picture for each layer, kind of images and kind of map. Yield their names, and what has no picture.

    Raise ConfigError for options that the networks cannot
    follow, and UserError for files that cannot be read or written.
    """
    from sagan.models.origin import origin_of
    from sagan.runtime.device import choose_device
    from sagan.sampling import progress
    from sagan.viewing import files, subjects
    from sagan.viewing.overlays import layer_pictures, view_queries

    shown = checkpoints_to_show(run, options.animate)
    load = partial(
        subjects.load_networks,
        options.network,
        ema=options.ema,
        device=choose_device(options.device),
        required=real.required,
    )
    networks = load(run, checkpoint=options.checkpoint)
    yield from filter(None, [networks.note])
    check_fit(points, networks.generator)
    if options.layer:
        subjects.require_layer(networks, options.network, options.layer)
    classes = chosen_classes(options.classes, networks.generator) if options.classes else None
    inputs = subjects.choose_inputs(networks, options.num, classes, options.seed, real)
    yield from filter(None, [inputs.note])
    views = subjects.view_layers(networks, inputs, options.network, options.layer)
    queries = {files.file_stem(v): [points] * len(v.images) if points else view_queries(v) for v in views}
    yield from subjects.missing_maps(networks, views, options.network)

    frames: dict[str, list] = {}
    for file in progress(shown, "checkpoints"):
        if options.animate:  # the points are those of the newest checkpoint in all frames
            networks = load(file)
            views = subjects.view_layers(networks, inputs, options.network, options.layer)
        for view in views:
            stem, title = files.file_stem(view), files.title(view, networks.generator)
            for part, picture in layer_pictures(view, queries[stem], title=title).items():
                frames.setdefault(f"{stem}-{part}", []).append(picture)
    out = Path(options.out) if options.out else (run_directory(run) or Path()) / "attention"
    for stem, pictures in frames.items():
        if options.animate:
            yield str(files.save_animation(pictures, out / stem, options.animate))
        else:
            yield str(files.save_picture(pictures[0], out / stem, origin_of(networks.generator).step))


def checkpoints_to_show(run: str, animate: str | None) -> list[str | Path]:
    """Return the run itself, or all its checkpoints to animate. Raise ConfigError or UserError for fewer than two."""
    if not animate:
        return [run]
    if not Path(run).is_dir():
        raise ConfigError(f"--animate {animate}: {run} is one file; expected a run directory with checkpoints")
    found = checkpoints(Path(run))
    if len(found) < 2:
        raise UserError(
            f"--animate {animate}: {run} has {len(found)} checkpoint{'s' * (len(found) != 1)}, expected at least 2; a "
            "run saves one every checkpoint.every steps and keeps checkpoint.keep of them"
        )
    return [*found]


def check_fit(points: list[Point] | None, generator: "Generator") -> None:
    """Raise ConfigError for points outside the images."""
    height, width = generator.size
    for y, x in points or []:
        if y >= height or x >= width:
            raise ConfigError(
                f"--queries {y},{x}: the images are {height}x{width}, expected y up to {height - 1} and x up to "
                f"{width - 1}"
            )
