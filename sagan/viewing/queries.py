"""Query points: the pixels of which a viewer asks where they look."""

import torch
import torch.nn.functional as F
from torch import Tensor

Point = tuple[int, int]  # y, x in pixels of the image

PLACE = 1.0  # distance from edge to edge, where that from black to full red, green or blue is 1
ROUNDS = 20


def automatic_queries(image: Tensor, number: int) -> list[Point]:
    """At most `number` different points on distinct parts of a uint8 image (C, H, W), from top to bottom.

    k-means over place and colour of all pixels, from starting centres that lie far from each other; of each part, the
    pixel nearest to its mean. A function of the image alone.
    """
    height, width = image.shape[1:]
    features = _features(image)  # (H W, 2 + C)
    number = min(number, height * width)
    centres = features[_far_apart(features, number)]  # (number, 2 + C)
    for _ in range(ROUNDS):
        part = torch.cdist(features, centres).argmin(1)  # (H W,)
        means = [features[part == k].mean(0) if (part == k).any() else centres[k] for k in range(number)]
        centres = torch.stack(means)
    distances = torch.cdist(features, centres)  # (H W, number)
    chosen: list[int] = []
    for k in range(number):
        distances[chosen, k] = torch.inf
        chosen.append(int(distances[:, k].argmin()))
    return sorted(divmod(index, width) for index in chosen)


def _features(image: Tensor) -> Tensor:
    """Place and colour of each pixel, (H W, 2 + C); colours of a 3x3 mean, so that no stray pixel is a part."""
    height, width = image.shape[1:]
    colour = F.avg_pool2d(image[None].double() / 255, 3, stride=1, padding=1, count_include_pad=False)[0]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([y, x]).double() * PLACE / max(height, width)
    return torch.cat([place, colour]).flatten(1).T.contiguous()


def _far_apart(features: Tensor, number: int) -> list[int]:
    """Indices of vectors (n, d): the one nearest to the mean, then always the one farthest from all so far."""
    distance = (features - features.mean(0)).norm(dim=1)
    chosen = [int(distance.argmin())]
    distance = torch.full_like(distance, torch.inf)
    while len(chosen) < number:
        distance = torch.minimum(distance, (features - features[chosen[-1]]).norm(dim=1))
        chosen.append(int(distance.argmax()))
    return chosen
