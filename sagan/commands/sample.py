"""`sagan sample`: generate images from a run."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sagan.commands.options import Checkpoint, Classes, Device, Ema, Flat, Run, TrustModule, chosen_classes
from sagan.commands.sample_checks import check, nearest_source
from sagan.commands.sample_names import default_out, form_of
from sagan.config import ConfigError, EvaluationConfig, ExtractorConfig
from sagan.config.types import FilePath, NonNegative, Positive, Truncation
from sagan.runtime.wording import counted, printable

if TYPE_CHECKING:
    from torch import Tensor

    from sagan.models.generator import Generator
    from sagan.runtime.captions import Captions
    from sagan.sampling import Draw


@dataclass(frozen=True)
class Options:
    """What to generate."""

    num: Positive | None = None
    """Number of images, or with --interpolate of images per row; null: ten per class or row. With --video, number of
    frames from one class to the next; null: 25."""
    classes: Classes | None = None
    """Classes, by number or name; null: all (the first ten in a picture)."""
    seed: NonNegative = 0
    """Seed. It and the choice of classes determine image i, whatever num and batch_size are."""
    truncation: Truncation = 0.0
    """Redraw entries of z beyond this many standard deviations; 0: never."""
    interpolate: Literal["z", "classes"] | None = None
    """Draw rows from one latent vector to another, or from one class to the next."""
    truncation_curve: str | None = None
    """Real images (a folder, a packed data set, or shapes, cifar10, ...) against which to score num images at each of
    seven truncations: precision, recall and others, as a table and a plot."""
    video: FilePath | None = None
    """FILE.mp4, .webp or .gif: a loop through latent vectors and classes, at 25 frames per second."""
    out: FilePath | None = None
    """FILE.png, .jpg or .webp: one picture; FILE.npz: arrays images (N, H, W, C) and labels; a name without a suffix: a
    folder with a subfolder of PNG files for each class, which sagan train accepts. null: a new picture, which never
    replaces a different one."""
    captions: bool = True
    """Write the class beside each row of a picture, and titles above the columns of --nearest."""
    nearest: FilePath | None = None
    """Training images to show beside each sample: a folder, a packed data set, or shapes, cifar10, ..."""
    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    """Feature extractor for the nearest-neighbour search, in addition to pixels."""
    checkpoint: Checkpoint = None
    ema: Ema = True
    standing_statistics: NonNegative = 0
    """Batches from which the statistics of batch norm are recomputed first; 0: use the running statistics."""
    batch_size: Positive = 64
    """Images to generate at a time."""
    device: Device = "auto"
    trust_module: TrustModule = field(default_factory=list)


def sample(run: Run, /, *, options: Flat[Options] = Options()) -> None:
    """Generate images from a run. By default: one grid, with one class per row.

    RUN is a run directory (its newest checkpoint), a checkpoint or an exported generator.safetensors. Nothing else is
    needed, not even the data set.

    examples:
      sagan sample runs/quickstart                             # the grid
      sagan sample runs/quickstart --classes [0,3] --num 40    # two rows of twenty
      sagan sample runs/cifar10 --classes cat,dog              # classes by name
      sagan sample runs/quickstart --num 1000 --out generated  # a data set
      sagan sample runs/quickstart --interpolate z             # between latents
      sagan sample runs/cifar10 --nearest cifar10              # beside real images
      sagan sample runs/quickstart --video loop.mp4            # a moving picture
      sagan sample runs/cifar10 --truncation_curve cifar10     # quality, variety
    """
    check(options)
    from sagan.models.sampling import set_standing_statistics
    from sagan.runs.networks import load_generator
    from sagan.runtime.device import choose_device

    device = choose_device(options.device)
    generator = load_generator(
        run, checkpoint=options.checkpoint, ema=options.ema, device=device, trust_module=options.trust_module
    )
    classes = chosen_classes(options.classes, generator)
    if options.standing_statistics:
        set_standing_statistics(generator, options.standing_statistics, options.batch_size, options.seed)
    print(printable(write(generator, options, classes, run)))


def write(generator: "Generator", options: Options, classes: list[int], run: str) -> str:
    """Write what the options ask for. Return a line that says where."""
    from sagan import sampling
    from sagan.runtime.pictures import save_new_picture, save_picture

    if options.video:
        return save_video(generator, options, classes if options.classes else classes[: sampling.ROWS], options.video)
    if options.truncation_curve:
        return save_curve(generator, options, options.truncation_curve, run)
    form = form_of(options.out) if options.out else "picture"
    if form == "picture":
        image, captions = picture(generator, options, classes if options.classes else classes[: sampling.ROWS])
        captions = captions if options.captions else None
        if options.out:
            save_picture(image, out := Path(options.out), captions)
        else:
            out = save_new_picture(image, default_out(run, generator, options), captions)
        return f"{out}{words_of_nearest(options) if options.nearest else ''}"
    out, num = Path(options.out or ""), number_of_images(options, classes)
    if form == "arrays":
        sampling.save_npz(*sampling.generate(generator, num, classes, drawn(options)), out)
    else:
        names = sampling.file_names(num, classes, sampling.folder_names(sampling.class_names(generator)))
        sampling.refuse_strangers(out, names)
        images, _ = sampling.generate(generator, num, classes, drawn(options))
        sampling.save_folder(images, names, out)
    return str(out)


def save_video(generator: "Generator", options: Options, classes: list[int], file: str) -> str:
    """Write the video of `--video` and return its name."""
    from sagan.sampling import progress, video

    between = options.num or video.RATE
    number = video.number_of_frames(classes, between)
    frames = video.loop_frames(generator, classes, between, drawn(options))
    video.save_video(iter(progress(frames, "frames", number)), Path(file))
    return file


def save_curve(generator: "Generator", options: Options, name: str, run: str) -> str:
    """Write the plot and the table of `--truncation_curve`; return their names, the table and its protocol."""
    from sagan import sampling
    from sagan.data import open_data
    from sagan.evaluation import build_extractor
    from sagan.models.origin import origin_of
    from sagan.sampling import truncation

    extractor, origin = build_extractor(options.extractor, next(generator.parameters()).device), origin_of(generator)
    real = open_data(sampling.data_like(origin.config.data, *nearest_source(name)))
    num, out = options.num or truncation.NUM, Path(options.out or default_out(run, generator, options))
    settings = {"num_samples": num, "num_real": min(num, len(real)), "seed": options.seed}
    protocol = replace(EvaluationConfig(), extractor=options.extractor, batch_size=options.batch_size, **settings)
    rows, last = truncation.truncation_curve(generator, real, extractor, protocol)
    title = f"step {origin.step}, {num} images against {name}"
    written = truncation.save_curve(rows, out, extractor.name, title, overwrite=options.out is not None)
    return "\n".join([*map(str, written), truncation.as_table(rows), *last.notes()])


def picture(generator: "Generator", options: Options, classes: list[int]) -> "tuple[Tensor, Captions | None]":
    """Return the picture that the options ask for, and the captions in its margins or None."""
    from sagan import sampling
    from sagan.runtime.captions import Captions

    titles = sampling.class_titles(generator)
    rows = [titles[c] for c in classes]
    if options.nearest:
        return nearest_images(generator, options, options.nearest, classes, rows)
    if options.interpolate:
        image = interpolated(generator, options, classes)
        captions = Captions(rows[:-1], rows[1:]) if options.interpolate == "classes" else Captions(rows)
    else:
        num = number_of_images(options, classes)
        images, _ = sampling.generate(generator, num, classes, drawn(options))
        image, captions = sampling.by_class(images, len(classes)), Captions(rows[:num])
    return image, captions if rows else None


def words_of_nearest(options: Options) -> str:
    """Return the description of the columns in the picture of `--nearest`."""
    from sagan.sampling import NEIGHBOURS

    by = f"by pixels (middle) and by features of {options.extractor.name} (right)"
    return f": samples (left), and their {NEIGHBOURS} nearest training images {by}"


def number_of_images(options: Options, classes: list[int]) -> int:
    """Return `--num`, or ten of each class."""
    from sagan.sampling import COLUMNS, ROWS

    return options.num or COLUMNS * (len(classes) or ROWS)


def drawn(options: Options) -> "Draw":
    """Return the latent vectors that the options ask for."""
    from sagan.sampling import Draw

    return Draw(options.seed, options.truncation, options.batch_size)


def interpolated(generator: "Generator", options: Options, classes: list[int]) -> "Tensor":
    """Return the picture of `--interpolate`. Raise ConfigError if there are fewer than two classes to go between."""
    from sagan import sampling

    if options.interpolate == "classes" and len(classes) < 2:
        found = counted(len(classes), "class", "classes")
        raise ConfigError(f"--interpolate classes: the generator has {found}, at least 2 needed")
    between = sampling.between_classes if options.interpolate == "classes" else sampling.between_latents
    return between(generator, classes, options.num or sampling.COLUMNS, drawn(options))


def nearest_images(
    generator: "Generator", options: Options, name: str, classes: list[int], titles: list[str]
) -> "tuple[Tensor, Captions]":
    """Return the picture of `--nearest` and its captions; `titles` are the titles of the classes."""
    from sagan import sampling
    from sagan.data import open_data
    from sagan.evaluation import build_extractor
    from sagan.models.origin import origin_of

    extractor = build_extractor(options.extractor, next(generator.parameters()).device)
    like = sampling.data_like(origin_of(generator).config.data, *nearest_source(name))
    data = open_data(like, download=like.path is None)  # a path here comes from the generator's file
    num = options.num or sampling.ROWS
    images, _ = sampling.generate(generator, num, classes, drawn(options))
    image = sampling.beside_nearest(images, data, lambda x: extractor(x)[0], options.batch_size)
    rows, found = [titles[i % len(titles)] for i in range(num)] if titles else [], min(sampling.NEIGHBOURS, len(data))
    return image, sampling.captions_of_nearest(rows, images.shape[-1], found, options.extractor.name)
