"""Signs of a failed run: losses or weights that are not finite, and collapse."""

import math

import torch
from torch import Tensor

from sagan.config import UserError
from sagan.runtime.wording import counted
from sagan.training.state import TrainState


class NonFiniteError(UserError):
    """A loss or a weight that is infinite or NaN."""

    exit_code = 3

    def __init__(self, message: str, step: int = 0):
        super().__init__(message)
        self.step = step
        """The first bad step."""


class FiniteWatch:
    """A record of the first step at which each loss and weight was not finite.

    It is kept on the device, so that `check` does not wait for queued work. `require` is called before a record, a grid
    or a checkpoint is written, so none of them ever holds a bad number. Its error names the first bad step even if more
    steps have been taken since.
    """

    def __init__(self, state: TrainState):
        self.names: list[str] = []
        self.weights: list[Tensor] = []
        for network in ("discriminator", "generator"):  # in the order of updates: the cause comes first
            named = dict(getattr(state, network).named_parameters())
            self.names += [f"loss/{network}", *(f"{network}.{name}" for name in named)]
            self.weights += [p.detach() for p in named.values()]
        self.first_bad = torch.zeros(len(self.names), dtype=torch.int64, device=state.device)  # steps; 0: none so far

    def check(self, step: int, metrics: dict[str, Tensor]) -> None:
        """Check the losses of a step and the weights after it."""
        # The largest entry, not the 2-norm: the squares of finite weights may overflow.
        # torch's own optimizers call this private function too.
        sizes = iter(torch._foreach_norm(self.weights, math.inf))
        values = [metrics[n].to(torch.float32) if n.startswith("loss/") else next(sizes) for n in self.names]
        bad = ~torch.isfinite(torch.stack(values))
        self.first_bad = torch.where(bad & (self.first_bad == 0), step, self.first_bad)

    def require(self, first_bad: Tensor | None = None) -> None:
        """Raise NonFiniteError, naming the first bad step and its tensors, if there was one.

        `first_bad` may be a copy on the host, of an earlier step. Without it, wait for the device.
        """
        first_bad = self.first_bad if first_bad is None else first_bad
        steps = dict(zip(self.names, first_bad.tolist(), strict=True))
        if not any(steps.values()):
            return
        first = min(step for step in steps.values() if step)
        bad = [name for name, step in steps.items() if step == first]
        more = f" and {counted(len(bad) - 3, 'more tensor')}" if len(bad) > 3 else ""
        raise NonFiniteError(
            f"step {first}: not finite: {', '.join(bad[:3])}{more}. Earlier checkpoints are "
            "untouched. A lower learning rate or training.precision float32 may help.",
            first,
        )


class CollapseWatch:
    """A watch on the logged values that warns once if D wins completely, and once if G collapses."""

    PATIENCE = 5  # records in a row: a single bad batch is not a collapse

    def __init__(self):
        self.streaks = {"saturated": 0, "vanished": 0}

    def warnings(self, values: dict[str, float]) -> dict[str, str]:
        """Return the warnings that the record `values` triggers: their name, saturated or vanished, and their text."""
        loss, fake, real = values["loss/discriminator"], values["spread/fake"], values["spread/real"]
        present = {
            "saturated": min(values["accuracy/real"], values["accuracy/fake"]) == 1.0 and loss < 0.01,
            "vanished": fake < 0.1 * real,
        }
        texts = {
            "saturated": f"the discriminator tells every real image from every fake one (loss {loss:.4f}), so the "
            "generator no longer learns. A lower optimizer.discriminator_lr, fewer training.d_steps or, for a small "
            "data set, training.diffaugment may help.",
            "vanished": f"generated images hardly differ from each other (spread {fake:.4f}, real {real:.4f}): the "
            "generator has collapsed. An earlier checkpoint or another seed may help.",
        }
        for sign, is_present in present.items():
            self.streaks[sign] = self.streaks[sign] + 1 if is_present else 0
        return {sign: texts[sign] for sign, streak in self.streaks.items() if streak == self.PATIENCE}
