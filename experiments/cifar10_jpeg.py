"""CIFAR-10's training images as JPEG files in class folders (quality 75, 4:2:0): the data of the experiments here.

python -m experiments.cifar10_jpeg data    # downloads CIFAR-10 to data, writes data/cifar10-jpeg/train/CLASS/NNNN.jpg
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image


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
    from torchvision.datasets import CIFAR10

    root = Path(sys.argv[1])
    images = CIFAR10(str(root), train=True, download=True)
    write((images[i] for i in range(len(images))), images.classes, root / "cifar10-jpeg" / "train")


if __name__ == "__main__":
    main()
