"""Losses and weights that are not finite, and collapse."""

import pytest
import torch

from sagan.training.health import CollapseWatch, FiniteWatch, NonFiniteError

GOOD = {"loss/discriminator": torch.tensor(1.0), "loss/generator": torch.tensor(0.5)}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_the_first_bad_step_and_its_tensor_are_named_even_if_checked_later(make_state, network, value):
    state = make_state()
    watch = FiniteWatch(state)
    for step in (1, 2):
        watch.check(step, GOOD)
    watch.require()
    with torch.no_grad():
        getattr(state, network).blocks[0].conv1.weight[1, 0] = value
    watch.check(3, GOOD)
    torch.nn.init.constant_(state.discriminator.logit.bias, float("nan"))
    watch.check(4, {**GOOD, "loss/generator": torch.tensor(float("nan"))})
    with pytest.raises(NonFiniteError, match=rf"step 3: not finite: {network}.blocks.0.conv1.weight\."):
        watch.require()


def test_a_bad_loss_is_named_before_the_weights_that_it_spoiled(make_state):
    state = make_state()
    watch = FiniteWatch(state)
    for p in [*state.discriminator.parameters(), *state.generator.parameters()]:
        torch.nn.init.constant_(p, float("nan"))
    watch.check(7, {name: torch.tensor(float("inf")) for name in GOOD})
    with pytest.raises(NonFiniteError, match=r"step 7: not finite: loss/discriminator, discriminator\..* more tensors"):
        watch.require()


def test_large_finite_weights_pass(make_state):
    state = make_state()
    torch.nn.init.constant_(state.generator.project.weight, 3e38)  # its 2-norm overflows
    watch = FiniteWatch(state)
    watch.check(1, GOOD)
    watch.require()


def values(**changes):
    healthy = {
        "loss/discriminator": 0.8,
        "accuracy/real": 0.9,
        "accuracy/fake": 1.0,
        "spread/fake": 0.3,
        "spread/real": 0.5,
    }
    return healthy | changes


SATURATED = values(**{"loss/discriminator": 0.001, "accuracy/real": 1.0})
VANISHED = values(**{"spread/fake": 0.01})


@pytest.mark.parametrize(
    ("sick", "words"), [(SATURATED, "the generator no longer learns"), (VANISHED, "the generator has collapsed")]
)
def test_collapse_is_reported_once_after_five_records_in_a_row(sick, words):
    watch = CollapseWatch()
    for record in [values()] * 3 + [sick] * 4 + [values()] + [sick] * 4:
        assert watch.warnings(record) == {}
    ((sign, text),) = watch.warnings(sick).items()
    assert sign == ("saturated" if sick is SATURATED else "vanished") and words in text
    assert watch.warnings(sick) == {}


def test_both_kinds_of_collapse_can_be_reported_together():
    watch = CollapseWatch()
    said = [watch.warnings(SATURATED | {"spread/fake": 0.0}) for _ in range(6)]
    assert [len(texts) for texts in said] == [0, 0, 0, 0, 2, 0]
