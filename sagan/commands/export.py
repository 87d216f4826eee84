"""`sagan export`: write a run's weights as safetensors."""

from dataclasses import dataclass, field
from pathlib import Path

from sagan.commands.options import Checkpoint, Flat, Run, TrustModule
from sagan.runtime.files import check_writable
from sagan.runtime.wording import printable


@dataclass(frozen=True)
class Options:
    """Which weights are written, and where."""

    checkpoint: Checkpoint = None
    out: str | None = None
    """Folder to write; null: export/ in the run directory, or beside the checkpoint."""
    trust_module: TrustModule = field(default_factory=list)


def export(run: Run, /, *, options: Flat[Options] = Options()) -> None:
    """Write the weights of G (its moving average if there is one) and D as safetensors.

    The configuration is inside the files. Any program can read them.

    examples:
      sagan export runs/quickstart --out weights
      sagan sample weights/generator.safetensors       # needs no other file
    """
    folder = Path(options.out or (Path(run) if Path(run).is_dir() else Path(run).parent) / "export")
    check_writable(folder, "--out", folder=True)
    from sagan.runs.networks import export as write
    from sagan.runs.networks import trust

    trust(options.trust_module)
    for file in write(run, folder, options.checkpoint):
        print(printable(str(file)))
