"""Random draws as functions of (seed, purpose, index).

No random state has to be saved, and no draw depends on how many processes, workers or batches share the work.
"""

import hashlib

import torch
from torch import Tensor

from sagan.config.types import LEAST_TRUNCATION, TRUNCATION_RANGE


def rng_for(seed: int, purpose: str, index: int) -> torch.Generator:
    """Return a CPU generator whose stream depends only on the three arguments.

    torch's CPU generator uses 32 bits of its seed, so among n indices about n^2 / 2^33 pairs have the same stream: 0.3
    among 50,000.
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def latents(seed: int, purpose: str, start: int, stop: int, z_dim: int, truncation: float = 0.0) -> Tensor:
    """Return z for the sample indices start..stop-1, one draw per index: (stop - start, z_dim), float32.

    Entries beyond `truncation` standard deviations are redrawn (BigGAN, section 3.1); 0 means never. Raise ValueError
    if that would take forever.
    """
    if truncation and not truncation >= LEAST_TRUNCATION:
        raise ValueError(f"truncation {truncation}: expected {TRUNCATION_RANGE}")
    rows = []
    for index in range(start, stop):
        generator = rng_for(seed, purpose, index)
        z = torch.randn(z_dim, generator=generator)
        while truncation > 0 and (outside := z.abs() > truncation).any():
            z = torch.where(outside, torch.randn(z_dim, generator=generator), z)
        rows.append(z)
    return torch.stack(rows) if rows else torch.empty(0, z_dim)


def labels(seed: int, purpose: str, start: int, stop: int, num_classes: int) -> Tensor | None:
    """Return uniform labels for the sample indices start..stop-1: (stop - start,), int64.

    Return None for an unconditional model.
    """
    if num_classes == 0:
        return None
    draws = [torch.randint(num_classes, (1,), generator=rng_for(seed, purpose, i)) for i in range(start, stop)]
    return torch.cat(draws) if draws else torch.empty(0, dtype=torch.long)
