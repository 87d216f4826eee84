"""A summary of a data set as text, and warnings about what looks wrong."""

import torch

from sagan.data.dataset import Dataset
from sagan.runtime.wording import counted, printable

RARE = 20  # times rarer than the most frequent class
SHOWN = 12  # classes or files listed by name


def summarize(dataset: Dataset) -> tuple[list[str], list[str]]:
    """Return lines to print at the start of a run, and warnings about classes that look wrong."""
    height, width = dataset.size
    kind = "greyscale" if dataset.channels == 1 else "RGB"
    where = f"{dataset.nbytes / 2**20:,.0f} MiB {dataset.residence}"
    lines = [f"data: {dataset.source}", f"{counted(len(dataset), 'image')}, {height}x{width} {kind}, {where}"]
    if dataset.class_names:
        lines.append(f"{counted(len(dataset.class_names), 'class', 'classes')}: {histogram_line(dataset)}")
    else:
        lines.append("no classes: unconditional")
    return [*lines, *left_out(dataset)], [*dataset.warnings, *histogram_warnings(dataset)]


def left_out(dataset: Dataset) -> list[str]:
    """Return a line about the images that could not be read so far, if there are any."""
    skipped = dataset.skipped
    more = f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
    number = counted(len(skipped), "unreadable image")
    return [f"{number} left out: {'; '.join(skipped[:SHOWN])}{more}"] if skipped else []


def class_counts(dataset: Dataset) -> dict[str, int]:
    """Return the number of images of each class, by name."""
    counts = torch.bincount(dataset.labels, minlength=len(dataset.class_names)).tolist()
    names = [printable(name, keep="") for name in dataset.class_names]
    return dict(zip(names, counts, strict=True)) if names else {}


def histogram_line(dataset: Dataset) -> str:
    """Return each class with its count, or only the extremes if there are many classes."""
    counts = class_counts(dataset)
    if len(set(counts.values())) == 1 and len(counts) > 1:
        names = ", ".join(list(counts)[:SHOWN]) + (", ..." if len(counts) > SHOWN else "")
        return f"{names}; {next(iter(counts.values())):,} images each"
    if len(counts) <= SHOWN:
        return ", ".join(f"{name} {count:,}" for name, count in counts.items())
    ranked = sorted(counts.items(), key=lambda item: item[1])
    parts = zip(("fewest", "median", "most"), (ranked[0], ranked[len(ranked) // 2], ranked[-1]), strict=True)
    return ", ".join(f"{word} {count:,} ({name})" for word, (name, count) in parts)


def histogram_warnings(dataset: Dataset) -> list[str]:
    """Return warnings about a single class, empty classes and rare ones."""
    counts = class_counts(dataset)
    if not counts:
        return []
    most = max(counts, key=lambda name: counts[name])
    empty = [name for name, count in counts.items() if count == 0]
    rare = [f"{name} ({count})" for name, count in counts.items() if 0 < count * RARE <= counts[most]]
    warnings = []
    if len(counts) - len(empty) == 1:
        folder = "is data.path the folder of class folders? " if dataset.identity is None else ""
        warnings.append(f"there is one class with images, {most!r}: {folder}data.num_classes=0 trains without classes")
    if empty:
        warnings.append(f"no images in {len(empty)} of {len(counts)} classes: {some(empty)}")
    if rare:
        warnings.append(
            f"{RARE} or more times rarer than {most!r} ({counts[most]}), in {len(rare)} of {len(counts)} classes: "
            f"{some(rare)}; the generator draws all classes equally often"
        )
    return warnings


def some(names: list[str]) -> str:
    """Return the first few names and the number of others."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
