"""CIFAR-10's training images as JPEG files in class folders (quality 75, 4:2:0): the data of the experiments here.

python -m experiments.cifar10_jpeg data    # downloads CIFAR-10 to data, writes data/cifar10-jpeg/train/CLASS/NNNN.jpg
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from sagan.config import UserError
from sagan.data.archives import fetch


def write(images: Iterable[tuple[Image.Image, int]], classes: Sequence[str], folder: Path) -> None:
    """Write images with labels as JPEG files in class folders, numbered within each class in their order."""
    written = Counter()
    for image, label in images:
        file = folder / classes[label] / f"{written[label]:04d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file, quality=75, subsampling="4:2:0")
        written[label] += 1


def main() -> None:
    """Write the data set below the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    root = parser.parse_args().root
    try:
        images = fetch("cifar10", root, "train", download=True)
    except UserError as error:
        raise SystemExit(str(error)) from None
    write((images[i] for i in range(len(images))), images.classes, root / "cifar10-jpeg" / "train")


if __name__ == "__main__":
    main()
