"""Query points: the pixels whose attention a viewer shows."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Point = tuple[int, int]  # y, x in pixels of the image

PLACE = 1.0  # distance from edge to edge, if the distance from black to full red, green or blue is 1
CELLS = 64  # along the longer side, at most
ROUNDS = 20


def automatic_queries(image: Tensor, number: int) -> list[Point]:
    """Return at most `number` different points on distinct parts of a uint8 image (C, H, W), from top to bottom.

    The parts come from k-means over the position and colour of all pixels (or of larger cells, if a side has more than
    64 pixels), started from centres that are far apart. The point of a part is the pixel with most of the part around
    it, so it is neither at the edge of the part nor at that of the image. The result depends on the image alone.
    """
    cell = math.ceil(max(image.shape[1:]) / CELLS)
    cells = F.avg_pool2d(image[None].double() / 255, cell)[0]  # (C, h, w)
    (height, width), features = cells.shape[1:], _features(cells)  # (h w, 2 + C)
    number = min(number, height * width)
    centres = features[_far_apart(features, number)]  # (number, 2 + C)
    part = torch.zeros(len(features), dtype=torch.long)  # (h w,)
    for _ in range(ROUNDS):
        part = torch.cdist(features, centres).argmin(1)
        centres = torch.stack([features[part == k].mean(0) if (part == k).any() else centres[k] for k in range(number)])
    reach = max(height, width) // 6
    masks = F.one_hot(part, number).T.reshape(number, 1, height, width).double()
    around = F.avg_pool2d(masks, 2 * reach + 1, stride=1, padding=reach).flatten(1)  # (number, h w)
    off_centre = torch.cdist(centres, features)  # breaks ties
    inside = masks.flatten(1) > 0
    score = torch.where(inside, around - 1e-3 * off_centre, -torch.inf)
    chosen = [divmod(int(score[k].argmax()), width) for k in range(number) if inside[k].any()]
    return sorted((y * cell + cell // 2, x * cell + cell // 2) for y, x in chosen)


def _features(image: Tensor) -> Tensor:
    """Return the position and colour of each pixel of an image in [0, 1] (C, H, W): (H W, 2 + C).

    Colours are averaged over 3x3 pixels, so that a stray pixel does not become a part.
    """
    height, width = image.shape[1:]
    colour = F.avg_pool2d(image[None], 3, stride=1, padding=1, count_include_pad=False)[0]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([y, x]).double() * PLACE / max(height, width)
    return torch.cat([place, colour]).flatten(1).T.contiguous()


def _far_apart(features: Tensor, number: int) -> list[int]:
    """Return indices of vectors (n, d): the one nearest to the mean, then repeatedly the farthest from all so far."""
    distance = (features - features.mean(0)).norm(dim=1)
    chosen = [int(distance.argmin())]
    distance = torch.full_like(distance, torch.inf)
    while len(chosen) < number:
        distance = torch.minimum(distance, (features - features[chosen[-1]]).norm(dim=1))
        chosen.append(int(distance.argmax()))
    return chosen
