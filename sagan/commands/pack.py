"""`sagan pack`: turn any data set into one memory-mapped file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sagan.commands.options import Flat, Given, Preset, TrainOptions
from sagan.config import Config, ConfigError
from sagan.config.types import FilePath
from sagan.presets import load_settings
from sagan.runtime.files import check_writable
from sagan.runtime.wording import counted, printable


@dataclass(frozen=True)
class Options:
    """Where to write the packed data set."""

    out: Annotated[FilePath | None, Parameter(show_default=False)] = None
    """Required: the folder to write, which must be new or hold a packed data set."""


def pack(
    preset: Preset = None, /, *, given: Given, options: Flat[Options] = Options(), config: TrainOptions = Config()
) -> None:
    """Read a data set once and write it as one memory-mapped array of decoded images.

    This is for data larger than memory. Images are written at `data.resolution`.

    examples:
      sagan pack imagenet --data.path my-images --out packed
      sagan train imagenet --data.source packed --data.path packed
    """
    config = load_settings(preset, given.of(Config))
    if not options.out:
        raise ConfigError("--out: the folder to write is missing")
    out = Path(options.out)
    check_writable(out, "--out", folder=True)
    from sagan.data import open_data, summarize
    from sagan.data import pack as write
    from sagan.data.packed import require_replaceable
    from sagan.data.summary import left_out

    require_replaceable(out)
    dataset = open_data(config.data)
    lines, warnings = summarize(dataset)
    print(printable("\n".join([*lines, *(f"warning: {w}" for w in warnings)])))
    known = len(dataset.skipped)
    number = write(dataset, out)
    if len(dataset.skipped) > known:  # while the images were written, for lack of memory for all
        print(printable("\n".join(left_out(dataset))))
    print(printable(f"{out}: {counted(number, 'image')}; train on them with --data.source packed --data.path {out}"))
