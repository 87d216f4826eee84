"""`sagan sample`: generate images from a run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from sagan.commands.options import Checkpoint, Classes, Device, Ema, Flat, Run, chosen_classes
from sagan.config import ConfigError, DataConfig, ExtractorConfig, UserError
from sagan.config.reading import option_types
from sagan.config.types import NonNegative, Positive, Truncation
from sagan.runtime.files import check_writable

if TYPE_CHECKING:
    from torch import Tensor

    from sagan.models.generator import Generator
    from sagan.sampling import Draw


@dataclass(frozen=True)
class Options:
    """What to generate."""

    num: Positive | None = None
    """Number of images, or of images in a row with --interpolate; null: ten of each class, ten in a row."""
    classes: Classes | None = None
    """Classes, by number or name; null: all (the first ten in a picture)."""
    seed: NonNegative = 0
    """Image i of a seed and a choice of classes is always the same, whatever num and batch_size are."""
    truncation: Truncation = 0.0
    """Redraw entries of z beyond this many standard deviations; 0: never."""
    interpolate: Literal["z", "classes"] | None = None
    """Draw rows from one latent vector to another, or from one class to the next."""
    out: str | None = None
    """FILE.png: one grid; FILE.npz: arrays images (N, H, W, C) and labels; else a folder of PNG files."""
    nearest: str | None = None
    """Training images to show beside each sample: a folder, a packed data set, or shapes, cifar10, ..."""
    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    """Feature extractor for the nearest-neighbour search; pixels are compared, too."""
    checkpoint: Checkpoint = None
    ema: Ema = True
    standing_statistics: NonNegative = 0
    """Batches from which the statistics of batch norm are recomputed first; 0: use the running statistics."""
    batch_size: Positive = 64
    """Images at a time."""
    device: Device = "auto"


def sample(run: Run, /, *, options: Flat[Options] = Options()) -> None:
    """Generate images from a run. By default: one grid, with a class in each row.

    RUN is a run directory (its newest checkpoint), a checkpoint or an exported generator.safetensors. Nothing else is
    needed, not even the data set.

    examples:
      sagan sample runs/quickstart                             # the grid
      sagan sample runs/quickstart --classes [0,3] --num 40    # two rows of twenty
      sagan sample runs/quickstart --num 1000 --out generated  # an image a file
      sagan sample runs/quickstart --interpolate z             # between latents
      sagan sample runs/cifar10 --nearest cifar10              # beside real images
    """
    check(options)
    from sagan.models.sampling import set_standing_statistics
    from sagan.runs.networks import load_generator
    from sagan.runtime.device import choose_device

    device = choose_device(options.device)
    generator = load_generator(run, checkpoint=options.checkpoint, ema=options.ema, device=device)
    classes = chosen_classes(options.classes, generator)
    out = Path(options.out) if options.out else default_out(run, generator, options)
    if options.standing_statistics:
        set_standing_statistics(generator, options.standing_statistics, options.batch_size, options.seed)
    print(write(generator, options, classes, out))


def check(options: Options) -> None:
    """Refuse options that no generator can follow. Raise ConfigError or UserError."""
    one_picture = "--interpolate" if options.interpolate else "--nearest" if options.nearest else None
    if options.interpolate and options.nearest:
        raise ConfigError(f"--interpolate {options.interpolate} and --nearest {options.nearest}: only one at a time")
    if one_picture and options.out and not options.out.endswith(".png"):
        raise ConfigError(f"--out {options.out}: {one_picture} makes one picture, so expected a name that ends in .png")
    if options.interpolate == "classes" and options.classes and len(options.classes) < 2:
        raise ConfigError(f"--classes {options.classes}: --interpolate classes goes between two classes or more")
    if options.out:
        check_writable(Path(options.out), "--out", folder=not options.out.endswith((".png", ".npz")))
    if options.nearest:
        nearest_source(options.nearest)


def nearest_source(name: str) -> tuple[str, str | None]:
    """Return the `data.source` and `data.path` that `--nearest` means: a folder, or a name such as cifar10.

    Raise UserError if it is neither.
    """
    path = Path(name).expanduser()
    named = [s for s in get_args(option_types(DataConfig)["source"]) if s not in ("folder", "packed")]
    if path.is_dir():
        return "packed" if (path / "meta.json").is_file() else "folder", name
    if name in named:
        return name, None
    raise UserError(f"--nearest {name}: no such folder; expected one with images, or one of {', '.join(named)}")


def default_out(run: str, generator: "Generator", options: Options) -> Path:
    """Return the file of a picture: in the samples/ of the run, or in the working directory for a file on its own."""
    from sagan.models.origin import origin_of
    from sagan.runs.directory import run_directory

    kind = f"interpolate-{options.interpolate}" if options.interpolate else "nearest" if options.nearest else "grid"
    name = f"{kind}-step-{origin_of(generator).step:08d}-seed-{options.seed}.png"
    directory = run_directory(run)
    return directory / "samples" / name if directory else Path(name)


def write(generator: "Generator", options: Options, classes: list[int], out: Path) -> str:
    """Write what the options ask for; return where, in words."""
    from sagan import sampling
    from sagan.runtime.pictures import save_png

    num, draw = number_of_images(options, classes), drawn(options)
    shown = classes if options.classes else classes[: sampling.ROWS]  # in one picture
    if options.interpolate:
        save_png(interpolated(generator, options, shown), out)
    elif options.nearest:
        save_png(nearest_images(generator, options, options.nearest, shown), out)
        by = f"by pixels (middle) and by features of {options.extractor.name} (right)"
        return f"{out}: samples (left), and their {sampling.NEIGHBOURS} nearest training images {by}"
    elif out.suffix == ".png":
        images, _ = sampling.generate(generator, number_of_images(options, shown), shown, draw)
        save_png(sampling.by_class(images, len(shown)), out)
    elif out.suffix == ".npz":
        sampling.save_npz(*sampling.generate(generator, num, classes, draw), out)
    else:
        names = sampling.file_names(num, classes)
        refuse_strangers(out, names)
        images, _ = sampling.generate(generator, num, classes, draw)
        sampling.save_folder(images, names, out)
    return str(out)


def number_of_images(options: Options, classes: list[int]) -> int:
    """Return `--num`, or ten of each class."""
    from sagan.sampling import COLUMNS, ROWS

    return options.num or COLUMNS * (len(classes) or ROWS)


def drawn(options: Options) -> "Draw":
    """Return which latent vectors the options ask for."""
    from sagan.sampling import Draw

    return Draw(options.seed, options.truncation, options.batch_size)


def interpolated(generator: "Generator", options: Options, classes: list[int]) -> "Tensor":
    """Return the picture of `--interpolate`. Raise ConfigError for fewer than two classes to go between."""
    from sagan import sampling

    if options.interpolate == "classes" and len(classes) < 2:
        raise ConfigError(f"--interpolate classes: the generator has {len(classes)} classes, at least 2 needed")
    between = sampling.between_classes if options.interpolate == "classes" else sampling.between_latents
    return between(generator, classes, options.num or sampling.COLUMNS, drawn(options))


def nearest_images(generator: "Generator", options: Options, name: str, classes: list[int]) -> "Tensor":
    """Return the picture of `--nearest`."""
    from sagan import sampling
    from sagan.data import open_data
    from sagan.evaluation import build_extractor
    from sagan.models.origin import origin_of

    extractor = build_extractor(options.extractor, next(generator.parameters()).device)
    data = open_data(sampling.data_like(origin_of(generator).config.data, *nearest_source(name)))
    images, _ = sampling.generate(generator, options.num or sampling.ROWS, classes, drawn(options))
    return sampling.beside_nearest(images, data, lambda x: extractor(x)[0], options.batch_size)


def refuse_strangers(folder: Path, names: list[str]) -> None:
    """Raise ConfigError if other images are in the folder: nobody could tell them from the new ones."""
    strangers = {p.name for p in folder.glob("*.png")} - set(names)
    if strangers:
        raise ConfigError(f"--out {folder}: holds {len(strangers)} other images, such as {min(strangers)}")
