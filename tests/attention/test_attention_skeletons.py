"""Networks without memory, by which a file's weights are compared with what its configuration describes."""

import pytest
import torch

from sagan.config import ConfigError
from sagan.models.build import build_discriminator, build_generator, build_skeleton
from sagan.presets import load_config
from tests.helpers.attention_kinds import CASES


def shapes(network):
    return {name: (tuple(t.shape), t.dtype) for name, t in network.state_dict().items()}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_skeleton_has_the_names_and_shapes_of_the_network_and_no_numbers(case):
    sides = ("generator", "discriminator")
    own = [
        f"model.{side}.attention.{key}" for side in sides for key in (f"kind={case.kind}", f"options={case.options}")
    ]
    sizes = ["data.num_classes=3", *(f"model.{side}.channels=16" for side in sides)]
    config = load_config(None, [*own, *sizes, "model.generator.init=orthogonal"])
    for build in (build_generator, build_discriminator):
        skeleton = build_skeleton(build, config)
        assert shapes(skeleton) == shapes(build(config))
        assert all(tensor.is_meta for tensor in skeleton.state_dict().values())


@pytest.mark.parametrize("channels", [10**6, 2**40, 10**17, 9 * 10**18])
def test_a_skeleton_of_any_size_takes_no_memory_or_is_one_error(channels):
    config = load_config(None, ["data.num_classes=3"])
    object.__setattr__(config.model.generator, "channels", channels)
    try:
        parameters = sum(p.numel() for p in build_skeleton(build_generator, config).parameters())
        assert parameters > channels**2
    except ConfigError as error:
        assert str(error).startswith("the networks cannot be built: ") and "\n" not in str(error)
        assert len(str(error)) < 300  # without the stack of torch's C++ code


def test_a_skeleton_draws_no_random_numbers():
    config = load_config(None, ["data.num_classes=3"])
    before = torch.get_rng_state()
    build_skeleton(build_generator, config)
    assert torch.equal(torch.get_rng_state(), before)
