"""Random images, and a labelled set of them in memory."""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sagan.data.rules import Rule


def random_images(start: int, stop: int, y: Tensor | None = None, seed: int = 0) -> Tensor:
    """uint8 (stop - start, 3, 8, 8), each a function of its index; classes differ in brightness."""
    rows = []
    for i in range(start, stop):
        generator = torch.Generator().manual_seed(1000 * seed + i)
        level = torch.randint(40, 200, (3, 2, 2), generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
        rows.append(level + torch.randint(0, 40, (3, 8, 8), generator=generator))
    images = torch.stack(rows)
    return (images + (0 if y is None else 5 * y[:, None, None, None])).clamp(0, 255).to(torch.uint8)


@dataclass
class ImagesInMemory:
    images: Tensor
    labels: Tensor
    class_names: list[str] = field(default_factory=list)
    size: tuple[int, int] = (8, 8)
    rule: Rule | None = None
    batches: int = 0
    """How often images were asked for: 0 after a hit of the cache."""

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.images.numpy()).hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def usable(self) -> Tensor:
        return torch.arange(len(self))

    def batch(self, indices: Tensor) -> Tensor:
        self.batches += 1
        return self.images[indices]


def make_real(n: int = 300, classes: int = 2, seed: int = 1) -> ImagesInMemory:
    y = torch.arange(n) % max(classes, 1)
    return ImagesInMemory(random_images(0, n, y, seed), y, [f"class {c}" for c in range(classes)])
