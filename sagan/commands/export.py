"""`sagan export`: write a run's networks for other programs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sagan.commands.options import Checkpoint, Flat, Licence, Run, TrustModule
from sagan.config import ConfigError
from sagan.config.types import FilePath
from sagan.runtime.files import check_writable
from sagan.runtime.wording import printable


@dataclass(frozen=True)
class Options:
    """What to write, and where."""

    checkpoint: Checkpoint = None
    format: Literal["safetensors", "onnx", "pt2"] = "safetensors"
    """safetensors: the weights; onnx, pt2 (torch.export): graphs that need no code of this program."""
    maps: bool = False
    """Add the attention maps to the outputs of a graph."""
    card: bool = False
    """Write a model card beside the weights: samples, data, steps, recorded scores and protocol, how to load them."""
    licence: Licence = None
    out: FilePath | None = None
    """Folder to write; null: export/ in the run directory, or beside the checkpoint."""
    trust_module: TrustModule = field(default_factory=list)


def export(run: Run, /, *, options: Flat[Options] = Options()) -> None:
    """Write the weights of G (its moving average if there is one) and D as safetensors, or both as graphs.

    The files contain the configuration, and any program that reads safetensors can read them. A graph accepts any batch
    size. generator.onnx takes z, float32 (N, z_dim), and, if the model has classes, y, int64 (N,). Its first output is
    image, float32 in [-1, 1]. discriminator.onnx goes from image and y to logit. Each graph is compared with its
    network before it is written. --format onnx needs pip install '.[onnx]'. RUN is a run directory or a checkpoint; for
    graphs, also exported weights or hf://user/name.

    examples:
      sagan export runs/quickstart --out weights
      sagan sample weights/generator.safetensors       # needs no other file
      sagan export runs/quickstart --card --licence mit --out weights
      sagan export runs/quickstart --format onnx --maps --out graphs
    """
    if options.maps and options.format == "safetensors":
        raise ConfigError("--maps true: weights have no outputs; --maps requires --format onnx or pt2")
    if options.card and options.format != "safetensors":
        raise ConfigError(f"--card true: is about weights; expected --format safetensors, given {options.format}")
    if options.licence and not options.card:
        raise ConfigError(f"--licence {options.licence}: requires --card")
    place = Path(run).expanduser()
    here = Path() if run.startswith("hf://") else place if place.is_dir() else place.parent
    folder = Path(options.out or here / "export")
    check_writable(folder, "--out", folder=True)
    from sagan.runs.networks import trust
    from sagan.sharing.weights import checkpoint_of
    from sagan.sharing.weights import export as write

    trust(options.trust_module)
    from sagan.sharing.card import is_card, refuse_foreign_card, write_card

    if options.card:
        refuse_foreign_card(folder)
    if options.format == "safetensors":
        checkpoint = checkpoint_of(run, options.checkpoint)
        files = write(checkpoint, folder)
        if options.card:
            files += write_card(checkpoint, folder, licence=options.licence)
    else:
        from sagan.sharing.graphs import export_graphs

        files = export_graphs(run, folder, options.format, options.checkpoint, maps=options.maps)
    for file in files:
        print(printable(str(file)))
    if options.format == "safetensors" and not options.card and is_card(folder / "README.md"):
        print(printable(f"warning: {folder / 'README.md'} describes what was exported before; --card makes it anew"))
