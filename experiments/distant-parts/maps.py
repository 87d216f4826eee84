"""Where the attention of trained runs looks: `python -m experiments.distant-parts.maps RUNS OUT.csv`.

RUNS is the folder of an ablation's runs, VARIANT/seed-N. For every attention matrix of their networks, this measures
the weight that a query inside one disc spends on the other disc, the weight that it spends on its own disc, and the
weight that a query of the background spends on both, each in multiples of uniform attention. G is also scored with and
without the layer, on the same z.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from sagan import load_discriminator, load_generator
from sagan.attention import AttentionMap
from sagan.data import open_data
from sagan.data.batches import to_float
from sagan.data.rules import SameHue, foreground
from sagan.evaluation.agreement import agreement
from sagan.runtime.draws import latents
from sagan.viewing.capture import LayerView, view_attention

IMAGES, BATCH = 1000, 100
SEED = 0


class Look(NamedTuple):
    """Weight spent on a target, in multiples of what uniform attention spends there; heads are averaged."""

    other_disc: float  # from one disc to the other
    own_disc: float  # from a disc to itself
    from_background: float  # from the background to both discs


def look(views: list[LayerView]) -> Look:
    """Return where the first map of one layer looks, over the batches of `views`. Images with one disc do not count."""
    spent, share = torch.zeros(3), torch.zeros(3)
    for view in views:
        both = ~SameHue().read(view.images).isnan().any(2).any(1)
        spent_here, share_here = targets(view.maps[0], view.images)
        spent += spent_here[both].sum(0)
        share += share_here[both].sum(0)
    return Look(*(spent / share).tolist())


def targets(attention: AttentionMap, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight on the targets of a Look, and the weight that uniform attention has there: each (N, 3)."""
    queries = discs(images, attention.query_size)  # (N, 2, queries)
    keys = discs(images, attention.key_size or attention.query_size)  # (N, 2, keys)
    weights = attention.weights.mean(1)  # (N, queries, keys)
    background = 1 - queries.sum(1, keepdim=True)  # (N, 1, queries)
    rows = torch.cat([queries, background], 1)
    rows = rows / rows.sum(2, keepdim=True).clamp(min=1e-6)  # from left, right, background
    spent = rows @ weights @ keys.mT  # (N, 3, 2): from left, right, background to left, right
    uniform = keys.mean(2)[:, None].expand_as(spent)
    return tuple(  # type: ignore[return-value]
        torch.stack([t[:, 0, 1] + t[:, 1, 0], t[:, 0, 0] + t[:, 1, 1], t[:, 2].sum(1)], 1) for t in (spent, uniform)
    )


def discs(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return how much of each cell of a grid the left and the right disc cover: uint8 (N, 3, H, W) -> (N, 2, cells)."""
    cover = adaptive_avg_pool2d(foreground(images.double() / 255).float()[:, None], size)  # (N, 1, h, w)
    left = torch.zeros_like(cover)
    left[..., : cover.shape[3] // 2] = 1
    return torch.cat([cover * left, cover * (1 - left)], 1).flatten(2)


def agreement_of(images: Tensor) -> float:
    """Return the agreement of uint8 images (N, 3, H, W)."""
    rule = SameHue()
    return agreement(rule.read(images), rule).score


def rows(run: Path) -> Iterator[dict[str, object]]:
    """Yield a row for each attention layer of a run and each kind of images it saw."""
    generator, discriminator = load_generator(run), load_discriminator(run)
    assert generator.origin is not None
    scenes = open_data(generator.origin.config.data)
    batches: list[list[LayerView]] = []
    for start in range(0, IMAGES, BATCH):
        z = latents(SEED, "maps", start, start + BATCH, generator.z_dim)
        real = to_float(scenes.batch(torch.arange(start, start + BATCH)))
        batches.append(view_attention(generator, discriminator, z, None, real))
    for views in zip(*batches, strict=True):
        first = views[0]
        if not first.maps or first.maps[0].kind != "matrix":
            continue
        row: dict[str, object] = {
            "variant": run.parent.name,
            "seed": run.name.removeprefix("seed-"),
            "network": first.network,
            "images": first.source,
            "gamma": first.gamma,
            "change": torch.cat([v.change for v in views if v.change is not None]).median().item(),
            **look(list(views))._asdict(),
        }
        if first.network == "generator":
            row["agreement"] = agreement_of(torch.cat([v.images for v in views]))
            row["agreement_without"] = agreement_of(torch.cat([v.without for v in views if v.without is not None]))
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    found = [row for run in sorted(options.runs.glob("*/seed-*")) for row in rows(run)]
    if not found:
        parser.error(f"{options.runs}: no VARIANT/seed-N with an attention matrix")
    names = list(dict.fromkeys(name for row in found for name in row))
    with open(options.out, "w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for row in found:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    main()
