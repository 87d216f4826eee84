"""The inputs of updates on their way to the device, and Adam's update of given gradients."""

import itertools
import time

import pytest
import torch

from sagan.config import UserError
from sagan.training.adam import adam_step
from sagan.training.input_buffers import InputBuffers, ahead, pack_inputs
from sagan.training.inputs import Inputs


def some_inputs(number=0):
    generator = torch.Generator().manual_seed(number)
    return Inputs(
        z=torch.randn(3, 5, generator=generator),
        y=torch.randint(9, (3,), generator=generator),
        real=torch.randint(256, (3, 3, 5, 7), generator=generator, dtype=torch.uint8),
        mirrored=torch.tensor([True, False, True]),
        decay=torch.tensor(0.25 + number),
    )


def test_a_block_carries_every_tensor_to_the_same_place():
    buffers = InputBuffers(torch.device("cpu"))
    first = buffers.load(pack_inputs(some_inputs(0), pin=False))
    at = {name: t.data_ptr() for name, t in first.tensors().items()}
    second = buffers.load(pack_inputs(some_inputs(1), pin=False))
    assert second is first and {name: t.data_ptr() for name, t in second.tensors().items()} == at
    assert second.uniform is None and second.real_y is None
    for name, expected in some_inputs(1).tensors().items():
        found = second.tensors()[name]
        assert found.dtype == expected.dtype and torch.equal(found, expected), name
    other = buffers.load(pack_inputs(Inputs(z=torch.ones(2, 2)), pin=False))
    assert other is not first and torch.equal(other.z, torch.ones(2, 2))


def test_items_computed_ahead_come_in_order_and_no_more_than_asked_for():
    computed = []

    def items():
        for i in itertools.count():
            computed.append(i)
            yield i

    reader = ahead(items(), depth=2)
    assert list(itertools.islice(reader, 5)) == [0, 1, 2, 3, 4]
    deadline = time.monotonic() + 20
    while len(computed) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # for one too many
    assert computed == list(range(8))  # two in the queue, and one that waits for a place
    reader.close()


def test_an_error_ahead_is_raised_when_its_item_is_due():
    def items():
        yield 1
        raise UserError("unreadable")

    reader = ahead(items(), depth=4)
    assert next(reader) == 1
    with pytest.raises(UserError, match="unreadable"):
        next(reader)
    assert list(ahead(iter([1, 2]), depth=1)) == [1, 2]


def test_adam_is_torchs(make_state):
    ours, theirs = make_state("optimizer.beta1=0.5"), make_state("optimizer.beta1=0.5")
    for step in range(3):
        gradients = []
        for p, q in zip(ours.generator.parameters(), theirs.generator.parameters(), strict=True):
            gradients.append(
                torch.randn(p.shape, generator=torch.Generator().manual_seed(step)).as_strided(p.shape, p.stride())
            )
            q.grad = gradients[-1].clone()
        adam_step(ours.generator_optimizer, gradients)
        theirs.generator_optimizer.step()
    for p, q in zip(ours.generator.parameters(), theirs.generator.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)
    one, other = (s.generator_optimizer.state_dict()["state"] for s in (ours, theirs))
    assert one.keys() == other.keys() and all(one[i].keys() == other[i].keys() for i in one)


def test_restored_averages_lie_in_memory_as_their_weights_do(make_state):
    state = make_state()
    gradients = [torch.ones_like(p) for p in state.generator.parameters()]
    adam_step(state.generator_optimizer, gradients)
    adam_step(state.discriminator_optimizer, [torch.ones_like(p) for p in state.discriminator.parameters()])
    content = state.checkpoint()
    for entry in content["generator_optimizer"]["state"].values():
        entry["exp_avg"] = entry["exp_avg"].contiguous()
    fresh = make_state()
    fresh.restore(content)
    for p, entry in fresh.generator_optimizer.state.items():
        assert entry["exp_avg"].stride() == p.stride() and entry["step"].device == p.device
    for p, q in zip(state.generator.parameters(), fresh.generator.parameters(), strict=True):
        one, other = state.generator_optimizer.state[p], fresh.generator_optimizer.state[q]
        assert torch.equal(one["exp_avg"], other["exp_avg"])
