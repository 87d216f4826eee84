"""Signs that a run has gone wrong: numbers that are no numbers, and collapse."""

import math

import torch
from torch import Tensor

from sagan.config import UserError
from sagan.training.state import TrainState


class NonFiniteError(UserError):
    """A loss or a weight is infinite or not a number."""

    exit_code = 3


class FiniteWatch:
    """Notes in which step each loss and weight was first not finite.

    The notes stay on the device, so that taking them never waits for its queue: a GPU is asked when a record, a grid or
    a checkpoint is due, so none of them holds a bad number, and the first bad step is named all the same. Steps in
    between are taken in vain.
    """

    def __init__(self, state: TrainState):
        self.names: list[str] = []
        self.weights: list[Tensor] = []
        for network in ("discriminator", "generator"):  # in the order of a step: the first name is nearest to the cause
            named = dict(getattr(state, network).named_parameters())
            self.names += [f"loss/{network}", *(f"{network}.{name}" for name in named)]
            self.weights += [p.detach() for p in named.values()]
        self.first_bad = torch.zeros(len(self.names), dtype=torch.int64, device=state.device)  # steps; 0: none so far

    def note(self, step: int, metrics: dict[str, Tensor]) -> None:
        """Looks at the losses of a finished step and at the weights it left."""
        # The largest entry, not the 2-norm: squares of finite weights may overflow.
        sizes = iter(torch._foreach_norm(self.weights, math.inf))
        values = [metrics[n].to(torch.float32) if n.startswith("loss/") else next(sizes) for n in self.names]
        bad = ~torch.isfinite(torch.stack(values))
        self.first_bad = torch.where(bad & (self.first_bad == 0), step, self.first_bad)

    def require(self) -> None:
        """Raises NonFiniteError, naming the first bad step and its tensors, if there was one. Waits for the device."""
        steps = dict(zip(self.names, self.first_bad.tolist(), strict=True))
        if not any(steps.values()):
            return
        first = min(step for step in steps.values() if step)
        bad = [name for name, step in steps.items() if step == first]
        more = f" and {len(bad) - 3} more tensors" if len(bad) > 3 else ""
        raise NonFiniteError(
            f"step {first}: not finite: {', '.join(bad[:3])}{more}. The checkpoints before it stay. "
            "A lower learning rate or training.precision float32 may help."
        )


class CollapseWatch:
    """Looks at the logged values and says, once each, when training has stopped being a game."""

    PATIENCE = 5  # records in a row: a single bad batch is no collapse

    def __init__(self):
        self.streaks = {"saturated": 0, "vanished": 0}

    def warnings(self, values: dict[str, float]) -> dict[str, str]:
        """Warnings that the record `values` calls for: saturated or vanished -> the same in words."""
        loss, fake, real = values["loss/discriminator"], values["spread/fake"], values["spread/real"]
        present = {
            "saturated": min(values["accuracy/real"], values["accuracy/fake"]) == 1.0 and loss < 0.01,
            "vanished": fake < 0.1 * real,
        }
        texts = {
            "saturated": f"the discriminator tells every real image from every fake, with loss {loss:.4f}: the "
            "generator learns nothing any more. Lower optimizer.discriminator_lr, fewer training.d_steps, or "
            "training.diffaugment on small data may help.",
            "vanished": f"generated images hardly differ from each other (spread {fake:.4f}, real {real:.4f}): the "
            "generator has collapsed. An earlier checkpoint or another seed may help.",
        }
        for sign, is_present in present.items():
            self.streaks[sign] = self.streaks[sign] + 1 if is_present else 0
        return {sign: texts[sign] for sign, streak in self.streaks.items() if streak == self.PATIENCE}
