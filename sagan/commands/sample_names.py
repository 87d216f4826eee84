"""Names of the files that `sagan sample` writes: what a given name asks for, and default names."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sagan.config import ConfigError, ExtractorConfig

if TYPE_CHECKING:
    from sagan.commands.sample import Options
    from sagan.models.generator import Generator

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
VIDEOS = (".mp4", ".webp", ".gif")
LONGEST = 40  # characters of the classes in the name of a file


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


def default_out(run: str, generator: "Generator", options: "Options") -> Path:
    """Return the file of a picture, in samples/ of the run, or in the working directory for a single file.

    Its name contains the step, the seed and every option that changes the picture.
    """
    from sagan.models.origin import origin_of
    from sagan.runs.directory import run_directory

    name = "-".join([f"{kind(options)}-step-{origin_of(generator).step:08d}-seed-{options.seed}", *deviations(options)])
    directory = run_directory(run)
    return directory / "samples" / f"{name}.png" if directory else Path(f"{name}.png")


def kind(options: "Options") -> str:
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


def deviations(options: "Options") -> list[str]:
    """Return the parts of a picture's name for options that differ from their defaults."""
    from sagan.sampling import safe_name

    classes = "-".join(map(str, options.classes or []))
    if len(classes) > LONGEST:
        digest = hashlib.sha256(classes.encode()).hexdigest()[:8]
        classes = f"{len(options.classes or [])}-{digest}"
    parts = {
        f"classes-{safe_name(classes)}": options.classes,
        f"num-{options.num}": options.num,
        f"truncation-{options.truncation:g}": options.truncation,
        "no-ema": not options.ema,
        f"standing-{options.standing_statistics}x{options.batch_size}": options.standing_statistics,
        "bare": not options.captions,
    }
    return [name for name, differs in parts.items() if differs]
