"""Figures as PNG, SVG and PDF files, the same bytes for the same figure."""

import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot, so that no window opens
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from sagan.runtime.files import write_atomically

# No dates, and no names of programs with their versions.
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
FIXED: Any = {"svg.hashsalt": "sagan", "pdf.fonttype": 42}  # reproducible ids; selectable text
DPI = 130


def save(figure: Figure, stem: Path, kinds: tuple[str, ...] = tuple(METADATA)) -> None:
    """Write a figure as STEM.png and so on, each file completely or not at all, and close it."""
    with matplotlib.rc_context(FIXED):
        for kind in kinds:
            buffer = io.BytesIO()
            figure.savefig(buffer, dpi=DPI, format=kind, metadata=METADATA[kind], bbox_inches="tight")
            write_atomically(stem.with_name(f"{stem.name}.{kind}"), lambda f, b=buffer: f.write(b.getvalue()))
    plt.close(figure)


def remove(stem: Path) -> None:
    """Delete the files of a figure that an earlier report had."""
    for kind in METADATA:
        stem.with_name(f"{stem.name}.{kind}").unlink(missing_ok=True)
