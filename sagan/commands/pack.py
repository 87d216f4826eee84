"""`sagan pack`: turn any data set into one memory-mapped file."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sagan.commands.options import Given, Preset, RunConfig
from sagan.config import Config, ConfigError
from sagan.presets import load_settings
from sagan.runtime.files import check_writable

Out = Annotated[str | None, Parameter(help="Folder to write; it must be new, or hold a packed data set.")]


def pack(preset: Preset = None, /, *, given: Given, out: Out = None, config: RunConfig = Config()) -> None:
    """Read a data set once and write it as one memory-mapped array of decoded images.

    This is for data larger than memory. Images are written at `data.resolution`.

    examples:
      sagan pack imagenet --data.path my-images --out packed
      sagan train imagenet --data.source packed --data.path packed
    """
    config = load_settings(preset, given.of(Config))
    if not out:
        raise ConfigError("--out: the folder to write is missing")
    check_writable(Path(out), "--out", folder=True)
    from sagan.data import open_data, summarize
    from sagan.data import pack as write

    dataset = open_data(config.data)
    lines, warnings = summarize(dataset)
    print("\n".join([*lines, *(f"warning: {w}" for w in warnings)]))
    write(dataset, Path(out))
    print(f"{out}: {len(dataset):,} images; train on them with --data.source packed --data.path {out}")
