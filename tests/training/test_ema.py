"""The moving average against its closed form."""

import copy

import pytest
import torch

from sagan import build_generator
from sagan.attention import KINDS
from sagan.training.ema import MovingAverage, ema_decay


def update(average, network, decay):
    MovingAverage(average, network).update(torch.tensor(decay))


def test_decay_is_zero_until_the_start_then_warms_up():
    assert [ema_decay(s, 0.9, 2) for s in range(5)] == [0, 0, 0, 2 / 11, 3 / 12]
    assert ema_decay(100, 0.9, 0) == 0.9 and ema_decay(79, 0.9, 0) == 80 / 89


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_statistics_are_averaged_and_singular_vectors_copied(make_config, kind):
    """A parameter of a kind may be called v, too."""
    network = build_generator(make_config(f"model.generator.attention.kind={kind}", "model.generator.channels=8"))
    parameters = dict(network.named_parameters())
    average = copy.deepcopy(network)
    start = {k: v.clone() for k, v in network.state_dict().items()}
    decays, sequence = [0.5, 0.9, 0.25], []
    for decay in decays:
        with torch.no_grad():
            for tensor in network.state_dict().values():
                tensor.copy_(torch.randn_like(tensor))
        sequence.append({k: v.clone() for k, v in network.state_dict().items()})
        update(average, network, decay)
    for name, mean in average.state_dict().items():
        if name.endswith((".u", ".v")) and name not in parameters:
            expected = sequence[-1][name]
        else:
            expected = start[name]
            for decay, values in zip(decays, sequence, strict=True):
                expected = decay * expected + (1 - decay) * values[name]
        torch.testing.assert_close(mean, expected, msg=name)
    assert any("running_var" in name for name in start)


def test_integers_are_copied():
    network = torch.nn.BatchNorm2d(3)  # a kind of one's own may have one
    average = copy.deepcopy(network)
    network(torch.randn(2, 3, 4, 4))
    for count in (1, 2):
        update(average, network, 0.5)
        assert average.num_batches_tracked == network.num_batches_tracked == count
        network(torch.randn(2, 3, 4, 4))


@pytest.mark.parametrize("value", [0.3, -7.0])
def test_a_decay_of_zero_copies_exactly(make_config, value):
    network = build_generator(make_config())
    average = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(value)
    update(average, network, 0.0)
    assert all(torch.equal(mean, network.state_dict()[name]) for name, mean in average.state_dict().items())
