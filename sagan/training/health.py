"""Signs that a run has gone wrong: numbers that are no numbers, and collapse."""

import math

import torch

from sagan.config import UserError
from sagan.training.state import TrainState


class NonFiniteError(UserError):
    """A loss or a weight is infinite or not a number."""


def require_finite(state: TrainState, losses: dict[str, float]) -> None:
    """Raises NonFiniteError, naming the step and the first tensor, if a loss or a weight is not finite."""
    bad = [f"{name} = {value}" for name, value in losses.items() if not math.isfinite(value)]
    bad += [name for name, norm in _weight_norms(state) if not math.isfinite(norm)]
    if bad:
        raise NonFiniteError(
            f"step {state.step}: {', then '.join(bad[:2])}{' and more' if len(bad) > 2 else ''} not finite. "
            "The last good checkpoint stays. A lower learning rate or float32 may help."
        )


def _weight_norms(state: TrainState) -> list[tuple[str, float]]:
    named = [
        (f"{network}.{name}", p)
        for network in ("generator", "discriminator")
        for name, p in getattr(state, network).named_parameters()
    ]
    # The largest entry, not the 2-norm: squares of finite weights may overflow.
    norms = torch.stack(torch._foreach_norm([p.detach() for _, p in named], math.inf)).tolist()
    return list(zip((name for name, _ in named), norms, strict=True))


class CollapseWatch:
    """Looks at the logged values and says, once each, in words, when training has stopped being a game."""

    PATIENCE = 5  # records in a row: a single bad batch is no collapse

    def __init__(self):
        self.streaks = {"saturated": 0, "vanished": 0}

    def warnings(self, values: dict[str, float]) -> list[str]:
        """Warnings that the record `values` calls for."""
        saturated = min(values["accuracy/real"], values["accuracy/fake"]) == 1.0 and values["loss/discriminator"] < 0.01
        vanished = values["spread/fake"] < 0.1 * values["spread/real"]
        texts = {
            "saturated": "the discriminator tells every real image from every fake with loss "
            f"{values['loss/discriminator']:.4f}: the generator learns nothing any more. Lower optimizer.discriminator_lr, "
            "fewer training.d_steps, or training.diffaugment on small data may help.",
            "vanished": f"generated images hardly differ from each other (spread {values['spread/fake']:.4f}, real "
            f"{values['spread/real']:.4f}): the generator has collapsed. An earlier checkpoint or another seed may help.",
        }
        said = []
        for sign, present in (("saturated", saturated), ("vanished", vanished)):
            self.streaks[sign] = self.streaks[sign] + 1 if present else 0
            if self.streaks[sign] == self.PATIENCE:
                said.append(f"warning: {texts[sign]}")
        return said
