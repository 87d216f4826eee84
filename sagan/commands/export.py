"""`sagan export`: write a run's weights as safetensors."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sagan.commands.options import Checkpoint, Run
from sagan.runtime.files import check_writable

OUT = "Folder to write; null: export/ in the run directory, or beside the checkpoint."


def export(
    run: Run, /, *, checkpoint: Checkpoint = None, out: Annotated[str | None, Parameter(help=OUT)] = None
) -> None:
    """Write the weights of G (its moving average if there is one) and D as safetensors.

    The configuration is inside the files. Any program can read them.

    examples:
      sagan export runs/quickstart --out weights
      sagan sample weights/generator.safetensors       # needs no other file
    """
    folder = Path(out or (Path(run) if Path(run).is_dir() else Path(run).parent) / "export")
    check_writable(folder, "--out", folder=True)
    from sagan.runs.networks import export as write

    for file in write(run, folder, checkpoint):
        print(file)
