"""What `sagan attention` draws: pictures of maps, animations, a page, or a picture without a layer."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sagan.commands.attention import Options, Point, shown_network, wants_page
from sagan.commands.options import chosen_classes
from sagan.config import ConfigError, UserError
from sagan.models.generator import Generator
from sagan.models.origin import origin_of
from sagan.runs.directory import checkpoints, run_directory
from sagan.runtime.device import choose_device
from sagan.runtime.wording import counted
from sagan.sampling import progress, safe_name
from sagan.viewing import picture_files, subjects
from sagan.viewing.overlays import view_queries
from sagan.viewing.subjects import Networks, RealData, ShownInputs, choose_inputs, load_networks, own_images


def draw(run: str, options: Options, points: list[Point] | None, real: RealData) -> Iterator[str]:
    """Write what the options ask for: pictures, animations, a page, or a picture without a layer. Yield lines about it.

    The lines are the names of the files, and notes on what has no maps. Raise ConfigError if the options do not fit the
    networks, and UserError if a file cannot be read or written.
    """
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


def network_loader(options: Options, real: RealData) -> Callable[..., Networks]:
    """Return a function that loads the networks that the options ask for, given a run and perhaps a checkpoint."""
    return partial(
        load_networks,
        shown_network(options),
        ema=options.ema,
        device=choose_device(options.device),
        required=real.required,
    )


def inputs_of(networks: Networks, options: Options, real: RealData) -> ShownInputs:
    """Return the inputs that the options ask for: the user's own images, or latent vectors and real images."""
    classes = chosen_classes(options.classes, networks.generator) if options.classes else None
    if options.images:
        return own_images(networks, options.images, options.num, classes, real.config)
    return choose_inputs(networks, options.num, classes, options.seed, real)


def name_of(run: str) -> str:
    """Return the name of a run, which is that of its directory or of the folder of exported weights."""
    if run.startswith("hf://"):
        return run.removeprefix("hf://")
    return (run_directory(run) or Path(run).absolute().parent).name


def checkpoints_to_show(run: str, options: Options) -> list[str | Path]:
    """Return the run itself, or all its checkpoints for an animation or a page.

    Raise ConfigError or UserError if there are fewer than two to animate.
    """
    folder = Path(run).expanduser()
    if wants_page(options) and not options.checkpoint and folder.is_dir():
        return [*checkpoints(folder)]
    if not (animate := options.animate):
        return [run]
    if not folder.is_dir():
        raise ConfigError(f"--animate {animate}: {run} is one file; expected a run directory with checkpoints")
    found = checkpoints(folder)
    if len(found) < 2:
        raise UserError(
            f"--animate {animate}: {run} has {counted(len(found), 'checkpoint')}, expected at least 2; a "
            "run saves one every checkpoint.every steps and keeps checkpoint.keep of them"
        )
    return [*found]


def check_fit(points: list[Point] | None, generator: Generator) -> None:
    """Raise ConfigError if a point is outside the images."""
    height, width = generator.size
    for y, x in points or []:
        if y >= height or x >= width:
            raise ConfigError(
                f"--queries {y},{x}: the images are {height}x{width}, expected y up to {height - 1} and x up to "
                f"{width - 1}"
            )
