"""Checks of which options of `sagan sample` go together, and of what data an option names."""

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from sagan.commands.sample_names import PICTURES, VIDEOS, form_of
from sagan.config import STORED, ConfigError, UserError
from sagan.config.schema import Source
from sagan.runtime.files import check_writable

if TYPE_CHECKING:
    from sagan.commands.sample import Options


def check(options: "Options") -> None:
    """Raise ConfigError or UserError if no generator could do what the options say."""
    if options.video:
        check_video(options, options.video)
    if options.truncation_curve:
        check_curve(options, options.truncation_curve)
    alone = ("interpolate", "nearest", "truncation_curve")
    one_picture = next((f"--{name}" for name in alone if getattr(options, name)), None)
    if options.interpolate and options.nearest:
        raise ConfigError(f"--interpolate {options.interpolate} and --nearest {options.nearest}: only one at a time")
    form = form_of(options.out) if options.out else "picture"
    if one_picture and form != "picture":
        expected = f"expected a name that ends in {', '.join(PICTURES)}"
        raise ConfigError(f"--out {options.out}: {one_picture} makes one picture, so {expected}")
    if options.interpolate == "classes" and options.classes and len(options.classes) < 2:
        raise ConfigError(f"--classes {options.classes}: --interpolate classes goes between two classes or more")
    if options.out:
        check_writable(Path(options.out), "--out", folder=form == "folder")
    if options.nearest:
        nearest_source(options.nearest, "--nearest")


def check_video(options: "Options", video: str) -> None:
    """Refuse options that do not go with `--video`, and a file that cannot be written."""
    if Path(video).suffix.lower() not in VIDEOS:
        raise ConfigError(f"--video {video}: expected a name that ends in {', '.join(VIDEOS)}")
    for name in ("interpolate", "nearest", "truncation_curve", "out"):
        if value := getattr(options, name):
            raise ConfigError(f"--video {video}: cannot be combined with --{name} {value}")
    check_writable(Path(video), "--video", folder=False)


def check_curve(options: "Options", name: str) -> None:
    """Refuse options that do not go with `--truncation_curve`, and missing data."""
    for other in ("interpolate", "nearest", "classes", "truncation", "video"):
        if value := getattr(options, other):
            raise ConfigError(f"--truncation_curve {name}: does not go with --{other} {value}")
    nearest_source(name, "--truncation_curve")


def nearest_source(name: str, option: str = "--nearest") -> tuple[str, str | None]:
    """Return `data.source` and `data.path` for the value of an option: a folder, an archive, or a name such as cifar10.

    Raise UserError if it is none of these.
    """
    path = Path(name).expanduser()
    named = [s for s in get_args(Source) if s not in (*STORED, "dataset")]
    if path.suffix == ".zip" and path.is_file():
        return "zip", name
    if path.is_dir():
        return "packed" if (path / "meta.json").is_file() else "folder", name
    if name in named:
        return name, None
    raise UserError(f"{option} {name}: no such folder; expected one with images, or one of {', '.join(named)}")
