"""Agreement: how well the two parts of generated images match, as the rule of their source demands.

agreement = 1 - gap / chance. `gap` is the mean gap between the left and the right part of an image. `chance` is the
mean gap over all pairs of a left part with another image's right part, so it accounts for a generator that paints few
hues. An image with a missing part counts as a gap at chance. Parts that always match score 1; independent parts score 0
up to noise.
"""

import math
from typing import NamedTuple

from torch import Tensor

from sagan.data.rules import Rule

CHUNK = 2**22  # numbers per block of the table of all pairs


class Agreement(NamedTuple):
    """How well the parts of a set of images match; `gap` and `chance` have the unit of the rule."""

    gap: float  # NaN if chance is NaN
    chance: float  # NaN unless one image has a left part and another a right part
    both_parts: float  # share of the images

    @property
    def score(self) -> float:
        """Return 1 - gap / chance: 1 if parts always match, near 0 if they are independent, NaN unless chance > 0."""
        return 1 - self.gap / self.chance if self.chance > 0 else math.nan


def agreement(parts: Tensor, rule: Rule) -> Agreement:
    """Compare the parts of n images, (n, 2, columns) as `Rule.read` returns them; NaN marks a missing part.

    Chance is exact: it covers every pair, in blocks, so memory does not grow with the square of n.
    """
    present = ~parts.isnan().any(2)  # (n, 2)
    both = present.all(1)
    own = rule.gap(*parts[both].unbind(1)).double().sum().item()
    left, right = parts[present[:, 0], 0], parts[present[:, 1], 1]
    pairs = len(left) * len(right) - int(both.sum())
    chance = (sum_of_gaps(left, right, rule) - own) / pairs if pairs else math.nan
    gap = (own + int((~both).sum()) * chance) / len(parts)
    return Agreement(gap, chance, both.double().mean().item())


def sum_of_gaps(left: Tensor, right: Tensor, rule: Rule) -> float:
    """Return the sum of the gaps between every left part (n, columns) and every right part (m, columns)."""
    rows = max(1, CHUNK // max(1, right.numel()))
    return sum(rule.gap(some[:, None], right[None]).double().sum().item() for some in left.split(rows))


def agreement_scores(parts: Tensor, rule: Rule) -> tuple[dict[str, float], list[str]]:
    """Return the scores by name, and what is left out, with reasons.

    Agreement and gap are left out if chance is below `rule.least_chance`: nearly all parts match nearly all others, so
    both would reward a generator of a single hue.
    """
    found = agreement(parts, rule)
    if math.isnan(found.chance):
        missing = "agreement: the generated images have no left and right part to compare"
        return {"agreement_both_parts": found.both_parts}, [missing]
    known = {"agreement_chance": found.chance, "agreement_both_parts": found.both_parts}
    if found.chance < rule.least_chance:
        reason = f"the gap at chance is {found.chance:.3g}, but at least {rule.least_chance:.3g} {rule.unit} are needed"
        return known, [f"agreement: {reason}; the images are too alike"]
    return {"agreement": found.score, "agreement_gap": found.gap, **known}, []
