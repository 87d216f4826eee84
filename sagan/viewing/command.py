"""`sagan attention`: from a run to pictures of its maps, one for each layer, or moving ones over its checkpoints."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from sagan.attention import attention_layers
from sagan.checks import query_points
from sagan.config import ConfigError, DataConfig, UserError
from sagan.data import resolve_num_classes
from sagan.data.opening import open_source
from sagan.evaluation.command import require_same_images
from sagan.models.discriminator import Discriminator
from sagan.models.generator import Generator
from sagan.option_parser import Setting
from sagan.options import AttentionOptions
from sagan.parsing import flatten
from sagan.runs.directory import checkpoints, run_directory
from sagan.runs.networks import load_discriminator, load_generator, load_run_config
from sagan.runtime.device import choose_device
from sagan.runtime.files import write_atomically
from sagan.sampling import chosen_classes, progress
from sagan.viewing.capture import LayerView, fixed_inputs, fixed_real, view_attention
from sagan.viewing.drawing import dithered, of_one_size
from sagan.viewing.overlays import layer_pictures, view_queries
from sagan.viewing.queries import Point

FRAME, LAST_FRAME = 700, 3000  # milliseconds


class Inputs(NamedTuple):
    """What the networks are shown, on their device; the last two arguments are None without real images."""

    z: Tensor
    y: Tensor | None
    real: Tensor | None
    real_y: Tensor | None


def data_settings(run: str, options: AttentionOptions) -> list[Setting]:
    """The data options of a run, for those of the command line to override."""
    config = load_run_config(run, options.checkpoint)
    return [Setting(key, value, f"{run}: ") for key, value in flatten(config.data, "data.")]


def draw_attention(run: str, options: AttentionOptions, data: DataConfig, data_given: bool) -> Iterator[str]:
    """Writes a picture for each layer, source of images and kind of map; yields their names, and what there is no
    picture of. `data_given`: somebody asked for real images, so that it is an error where there are none.

    Raises ConfigError for options that the networks cannot follow, UserError for files that cannot be read or written.
    """
    files = checkpoint_files(run, options)
    device = choose_device(options.device)
    generator, discriminator, note = load_networks(run, options.checkpoint, options, device, data_given)
    if note:
        yield note
    check_fit(options, generator, discriminator)
    inputs, note = choose_inputs(generator, discriminator, options, data, data_given)
    if note:
        yield note
    views = chosen_views(generator, discriminator, inputs, options)
    queries = {name(view): chosen_queries(view, options) for view in views}  # of the newest, for all frames
    yield from missing_maps(generator, discriminator, views, options)

    frames: dict[str, list[Image.Image]] = {}
    for file in progress(files, "checkpoints"):
        if options.animate:
            generator, discriminator, _ = load_networks(file, None, options, device, data_given)
            views = chosen_views(generator, discriminator, inputs, options)
        for view in views:
            pictures = layer_pictures(view, queries[name(view)], title=title(view, generator))
            for part, picture in pictures.items():
                frames.setdefault(f"{name(view)}-{part}", []).append(picture)
    out = out_folder(run, options)
    for stem, pictures in frames.items():
        yield str(save(pictures, out / stem, generator.origin.step, options.animate))


def checkpoint_files(run: str, options: AttentionOptions) -> list[str | Path]:
    """The run itself, or all checkpoints of it to animate. Raises ConfigError, UserError where there are not two."""
    if not options.animate:
        return [run]
    asked = f"--animate {options.animate}"
    if not Path(run).is_dir():
        raise ConfigError(f"{asked}: {run} is one file; expected a run directory, a frame is drawn for each checkpoint")
    found = checkpoints(Path(run))
    if len(found) < 2:
        raise UserError(
            f"{asked}: {run} has {len(found)} checkpoint{'s' * (len(found) != 1)}, at least 2 make a moving picture; "
            "a run saves one every checkpoint.every steps and keeps checkpoint.keep of them"
        )
    return found


def load_networks(
    run: str | Path, checkpoint: str | None, options: AttentionOptions, device: torch.device, data_given: bool
) -> tuple[Generator, Discriminator | None, str]:
    """G; D, or None where it is not asked for or, with an exported generator alone, not there; a note that says so."""
    generator = load_generator(run, checkpoint=checkpoint, ema=options.ema, device=device)
    if options.network == "generator":
        return generator, None, ""
    try:
        return generator, load_discriminator(run, checkpoint=checkpoint, device=device), ""
    except UserError as error:
        if options.network or data_given or not str(run).endswith(".safetensors"):
            raise
        return generator, None, f"no maps of the discriminator: {error}"


def check_fit(options: AttentionOptions, generator: Generator, discriminator: Discriminator | None) -> None:
    """Raises ConfigError for points outside the images, and for a layer that is not there."""
    height, width = generator.size
    for y, x in query_points(options.queries) or []:
        if y >= height or x >= width:
            raise ConfigError(
                f"--queries {y},{x}: the images are {height}x{width}, expected y up to {height - 1} and x up to "
                f"{width - 1}"
            )
    networks = {"generator": generator, "discriminator": discriminator}
    layers = {n: list(attention_layers(networks[n])) for n in shown_networks(options, discriminator)}
    if options.layer and not any(options.layer in found for found in layers.values()):
        known = "; ".join(f"{', '.join(found) or 'none'} in the {network}" for network, found in layers.items())
        raise ConfigError(f"--layer {options.layer}: there is no such attention layer; expected one of: {known}")


def shown_networks(options: AttentionOptions, discriminator: Discriminator | None) -> list[str]:
    """The networks whose maps are asked for and can be had."""
    both = ["generator"] if discriminator is None else ["generator", "discriminator"]
    return [options.network] if options.network else both


def choose_inputs(
    generator: Generator,
    discriminator: Discriminator | None,
    options: AttentionOptions,
    data: DataConfig,
    data_given: bool,
) -> tuple[Inputs, str]:
    """Latent vectors, labels and real images, and a note where real ones cannot be had. Raises ConfigError, UserError
    then, if somebody asked for them."""
    classes = chosen_classes(options.classes, generator.num_classes)
    z, y = fixed_inputs(generator, options.num, options.seed)
    if options.classes:
        y = torch.tensor(classes, device=z.device)[torch.arange(options.num, device=z.device) % len(classes)]
    if discriminator is None:
        return Inputs(z, y, None, None), ""
    try:
        real, real_y = real_images(generator, options, data, y)
    except (ConfigError, UserError) as error:
        if data_given:
            raise
        return Inputs(z, y, None, None), f"no maps of real images: {error}"
    return Inputs(z, y, real.to(z.device), None if y is None else real_y.to(z.device)), ""


def real_images(
    generator: Generator, options: AttentionOptions, data: DataConfig, y: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Real images like the generator's, with labels as `fixed_real` has them: of the classes y, if there are any."""
    require_same_images(data, generator)
    dataset = open_source(data, "train")
    if generator.num_classes == 0:
        dataset.forget_labels()
    resolve_num_classes(data, dataset)
    resolve_num_classes(replace(data, num_classes=generator.num_classes), dataset)  # whose labels D knows
    return fixed_real(dataset, options.num, None if y is None else y.cpu())


def chosen_views(
    generator: Generator, discriminator: Discriminator | None, inputs: Inputs, options: AttentionOptions
) -> list[LayerView]:
    """The views of the networks and the layer that the options name."""
    views = view_attention(generator, discriminator, *inputs)
    return [v for v in views if options.network in (None, v.network) and options.layer in (None, v.layer)]


def chosen_queries(view: LayerView, options: AttentionOptions) -> list[list[Point]]:
    """The points that the options name, or automatic ones, for each image of a view."""
    points = query_points(options.queries)
    return view_queries(view) if points is None else [points] * len(view.images)


def missing_maps(
    generator: Generator, discriminator: Discriminator | None, views: list[LayerView], options: AttentionOptions
) -> list[str]:
    """Words for what has no map. Raises UserError where nothing has one."""
    notes = []
    for network in shown_networks(options, discriminator):
        kind = getattr(generator.origin.config.model, network).attention.kind
        layers = {v.layer: v.maps for v in views if v.network == network}
        if kind == "none":
            notes.append(f"the {network} has attention kind none: no maps")
        notes += [f"{network} {layer}: kind {kind} has no maps" for layer, maps in layers.items() if not maps]
    if not any(view.maps for view in views):
        raise UserError(f"there is nothing to draw: {'; '.join(notes)}")
    return notes


def name(view: LayerView) -> str:
    """What a view shows, as a part of file names."""
    return f"{view.network}-{view.layer}-{view.source}"


def title(view: LayerView, generator: Generator) -> str:
    """What a view shows, in words."""
    average = " (moving average)" if view.network == "generator" and generator.origin.averaged else ""
    return f"step {generator.origin.step}: {view.network}{average}, {view.layer}, on {view.source} images"


def out_folder(run: str, options: AttentionOptions) -> Path:
    """`--out`, or attention/ in the run or, for a file on its own, here."""
    return Path(options.out) if options.out else (run_directory(run) or Path()) / "attention"


def save(pictures: list[Image.Image], stem: Path, step: int, animate: str | None) -> Path:
    """Writes STEM-step-N.png, or with several pictures a moving STEM.webp or STEM.gif."""
    if animate is None:
        path, options = stem.with_name(f"{stem.name}-step-{step:08d}.png"), {"format": "PNG"}
    else:
        path, pictures = stem.with_name(f"{stem.name}.{animate}"), of_one_size(pictures)
        durations = [FRAME] * (len(pictures) - 1) + [LAST_FRAME]
        options = {"format": animate, "save_all": True, "duration": durations, "loop": 0}
        if animate == "webp":
            options["quality"] = 90
        else:
            pictures = [dithered(p) for p in pictures]
        options["append_images"] = pictures[1:]
    write_atomically(path, lambda file: pictures[0].save(file, **options))
    return path
