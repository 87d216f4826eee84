"""`sagan sample`: generate images from a run. Its options, their checks, and the default names of its pictures."""

import hashlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from annotated_types import Predicate, doc

from sagan.commands.options import Checkpoint, Classes, Device, Ema, Flat, Run, TrustModule, chosen_classes
from sagan.config import FROM_PYTHON, STORED, ConfigError, ExtractorConfig, UserError
from sagan.config.schema import Source
from sagan.config.types import FilePath, NonNegative, Positive, Truncation, as_text
from sagan.runtime.files import check_writable
from sagan.runtime.wording import printable

if TYPE_CHECKING:
    from sagan.models.generator import Generator

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
VIDEOS = (".mp4", ".webp", ".gif")
A_VIDEO = f"a name that ends in {', '.join(VIDEOS)}"
LONGEST = 40  # characters of the classes in the name of a file
# Options that no picture's name lists: `kind`, the seed and the step say the first ones; the others change no picture.
ELSEWHERE = ("interpolate", "nearest", "truncation_curve", "extractor", "seed", "checkpoint")
ELSEWHERE += ("out", "video", "batch_size", "device", "trust_module")


def is_video(file: str) -> bool:
    """Return whether the suffix of a name is that of a video."""
    return Path(file).suffix.lower() in VIDEOS


@dataclass(frozen=True)
class Options:
    """What to generate."""

    num: Positive | None = None
    """Number of images; null: ten per class (100 without classes), or ten in all with --nearest. With --interpolate,
    images per row; null: ten. With --truncation_curve, images at each truncation; null: 1,000. With --video, frames
    from one class to the next; null: 25."""
    classes: Classes | None = None
    """Classes, by number or name; null: all (the first ten in a picture)."""
    seed: NonNegative = 0
    """Seed. It and the choice of classes determine image i, whatever num and batch_size are."""
    truncation: Truncation = 0.0
    """Redraw entries of z beyond this many standard deviations; 0: never."""
    interpolate: Literal["z", "classes"] | None = None
    """Draw rows from one latent vector to another, or from one class to the next."""
    truncation_curve: FilePath | None = None
    """Real images (a folder, a zip archive, a packed data set, or shapes, cifar10, ...) against which to score num
    images at each of seven truncations: precision, recall and others, as a table and a plot."""
    video: Annotated[FilePath, Predicate(is_video), doc(A_VIDEO)] | None = None
    """FILE.mp4, .webp or .gif: a loop through latent vectors and classes, at 25 frames per second."""
    out: FilePath | None = None
    """FILE.png, .jpg or .webp: one picture; FILE.npz: arrays images (N, H, W, C) and labels; a name without a suffix: a
    folder with a subfolder of PNG files for each class, which sagan train accepts. null: a new picture, which never
    replaces a different one."""
    captions: bool = True
    """Write the class beside each row of a picture, and titles above the columns of --nearest."""
    nearest: FilePath | None = None
    """Training images to show beside each sample: a folder, a zip archive, a packed data set, or shapes, cifar10, ...
    The nearest ones by pixels and by the features of --extractor.name are found."""
    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    """Feature extractor of --nearest and --truncation_curve."""
    checkpoint: Checkpoint = None
    ema: Ema = True
    standing_statistics: NonNegative = 0
    """Batches used to recompute the statistics of batch norm beforehand, from z without truncation; 0: use the running
    statistics."""
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
    from sagan.commands.sample_output import write
    from sagan.models.image_sampler import set_standing_statistics
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


def check(options: Options) -> None:
    """Raise ConfigError or UserError if no generator could do what the options say."""
    if options.video:
        check_video(options, options.video)
    if options.truncation_curve:
        check_curve(options, options.truncation_curve)
    alone = ("interpolate", "nearest", "truncation_curve")
    one_picture = next((f"--{name}" for name in alone if getattr(options, name)), None)
    for name in () if options.nearest or options.truncation_curve else ("name", "weights"):
        if (value := getattr(options.extractor, name)) != getattr(ExtractorConfig(), name):
            raise ConfigError(f"--extractor.{name} {value}: requires --nearest or --truncation_curve")
    if options.interpolate and options.nearest:
        raise ConfigError(f"--interpolate {options.interpolate} and --nearest {options.nearest}: only one at a time")
    form = form_of(options.out) if options.out else "picture"
    if one_picture and form != "picture":
        expected = f"expected a name that ends in {', '.join(PICTURES)}"
        raise ConfigError(f"--out {options.out}: {one_picture} makes one picture, so {expected}")
    if options.interpolate == "classes" and options.classes and len(options.classes) < 2:
        raise ConfigError(f"--classes {as_text(options.classes)}: --interpolate classes needs at least two classes")
    if options.out:
        check_writable(Path(options.out), "--out", folder=form == "folder")
    if options.nearest:
        nearest_source(options.nearest, "--nearest")


def check_video(options: Options, video: str) -> None:
    """Refuse options that cannot be combined with `--video`, and a file that cannot be written."""
    for name in ("interpolate", "nearest", "truncation_curve", "out"):
        if value := getattr(options, name):
            raise ConfigError(f"--video {video}: cannot be combined with --{name} {value}")
    check_writable(Path(video), "--video", folder=False)


def check_curve(options: Options, name: str) -> None:
    """Refuse options that cannot be combined with `--truncation_curve`, and missing data."""
    for other in ("interpolate", "nearest", "classes", "truncation"):
        if value := getattr(options, other):
            raise ConfigError(f"--truncation_curve {name}: cannot be combined with --{other} {as_text(value)}")
    nearest_source(name, "--truncation_curve")
    if options.out:
        table = Path(options.out).with_suffix(".csv")
        check_writable(table, f"--out {options.out}: the table", folder=False)
        if table.is_file() and not table.read_text("utf-8", errors="replace").startswith("truncation,"):
            raise ConfigError(f"--out {options.out}: {table} is not a table of truncations, and would be replaced")


def nearest_source(name: str, option: str = "--nearest") -> tuple[str, str | None]:
    """Return `data.source` and `data.path` for the value of an option: a folder, an archive, or a name such as cifar10.

    Raise UserError if it is none of these.
    """
    path = Path(name)
    named = [s for s in get_args(Source) if s not in (*STORED, FROM_PYTHON)]
    if path.suffix.lower() == ".zip" and path.is_file():
        return "zip", name
    if path.is_dir():
        return "packed" if (path / "meta.json").is_file() else "folder", name
    if name in named:
        return name, None
    raise UserError(f"{option} {name}: no such folder; expected one with images, or one of {', '.join(named)}")


def form_of(out: str) -> Literal["picture", "arrays", "folder"]:
    """Return what `--out` asks for. Raise ConfigError if its suffix is unknown."""
    suffix = Path(out).suffix.lower()
    if suffix in PICTURES:
        return "picture"
    if suffix == ".npz":
        return "arrays"
    if suffix and not out.endswith("/") and not Path(out).is_dir():
        known = ", ".join([*PICTURES, ".npz"])
        raise ConfigError(f"--out {out}: expected a name that ends in {known}; or in / for a folder")
    return "folder"


def default_out(run: str, generator: "Generator", options: Options) -> Path:
    """Return the file of a picture, in samples/ of the run, or in the working directory for a single file."""
    from sagan.models.origin import origin_of
    from sagan.runs.directory import run_directory

    name = f"{picture_name(options, origin_of(generator).step)}.png"
    directory = run_directory(run)
    return directory / "samples" / name if directory else Path(name)


def picture_name(options: Options, step: int) -> str:
    """Return the name of a picture: what it shows, the step, the seed and every option that changes it."""
    default = Options()
    changed = (f.name for f in fields(Options) if getattr(options, f.name) != getattr(default, f.name))
    parts = [in_name(options, option) for option in changed if option not in ELSEWHERE]
    return "-".join([f"{kind(options)}-step-{step:08d}-seed-{options.seed}", *parts])


def in_name(options: Options, option: str) -> str:
    """Return the part of a picture's name for an option that differs from its default."""
    value = getattr(options, option)
    if option == "classes":
        return f"classes-{short_classes(value)}"
    words = {"captions": "bare", "ema": "no-ema", "standing_statistics": f"standing-{value}x{options.batch_size}"}
    return words.get(option) or f"{option}-{value:g}"


def short_classes(classes: list[str]) -> str:
    """Return classes as part of a file's name; many become their number and a digest."""
    from sagan.sampling import safe_name

    text = "-".join(map(str, classes))
    if len(text) <= LONGEST:
        return safe_name(text)
    return f"{len(classes)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def kind(options: Options) -> str:
    """Return the part of a picture's name that says what it shows."""
    from sagan.sampling import safe_name

    if options.interpolate:
        return f"interpolate-{options.interpolate}"
    if options.truncation_curve:
        return f"truncations-{safe_name(Path(options.truncation_curve).name)[:40]}-{options.extractor.name}"
    if not options.nearest:
        return "grid"
    default = ExtractorConfig().name
    by = "" if options.extractor.name == default else f"-{options.extractor.name}"
    return f"nearest-{safe_name(Path(options.nearest).name)[:40]}{by}"
