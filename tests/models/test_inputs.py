"""Inputs of the networks: errors name the shape or range; `sample` is a function of seed, index and class."""

import pytest
import torch

from sagan import build_discriminator, build_generator
from sagan.models.image_sampler import image_sampler


@pytest.fixture
def networks(make_config):
    config = make_config()
    return build_generator(config), build_discriminator(config)


@pytest.mark.parametrize(
    ("z", "y", "message"),
    [
        (torch.zeros(2, 9), torch.zeros(2, dtype=torch.long), r"z has shape \(2, 9\), expected \(N, 8\)"),
        (torch.zeros(8), torch.zeros(1, dtype=torch.long), r"z has shape \(8,\), expected \(N, 8\)"),
        (torch.zeros(2, 8), torch.tensor([0, 3]), "y has labels from 0 to 3, expected 0 to 2"),
        (torch.zeros(2, 8), torch.tensor([-1, 0]), "y has labels from -1 to 0, expected 0 to 2"),
        (torch.zeros(2, 8), torch.tensor([0]), r"y has shape \(1,\), expected \(2,\)"),
        (torch.zeros(2, 8), torch.zeros(2, 4), r"y has shape \(2, 4\), expected \(2, 3\)"),
        (torch.zeros(2, 8), None, "y is missing, but the generator has 3 classes"),
    ],
)
def test_latents_and_labels_that_do_not_fit_are_named(networks, z, y, message):
    with pytest.raises(ValueError, match=message):
        networks[0](z, y)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 16, 16), torch.zeros(3, 32, 32), torch.zeros(2, 3, 32, 32).byte()]
)
def test_images_that_do_not_fit_are_named(networks, images):
    with pytest.raises(ValueError, match=r"expected float \(N, 3, 32, 32\) in \[-1, 1\]"):
        networks[1](images, torch.zeros(2, dtype=torch.long))


def test_samples_do_not_depend_on_batch_size_or_number_and_leave_the_network_as_it_is(networks):
    generator = networks[0].train()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    images = generator.sample(7, seed=3, batch_size=2)
    assert images.shape == (7, 3, 32, 32) and images.dtype == torch.uint8
    assert torch.equal(generator.sample(5, seed=3), images[:5])
    assert not torch.equal(generator.sample(5, seed=4), images[:5])
    assert generator.training and all(torch.equal(before[n], v) for n, v in generator.state_dict().items())
    # Evaluation draws the same images, from the index and the class alone.
    y = torch.arange(7) % 3
    assert torch.equal(image_sampler(generator.eval(), 3)(0, 7, y), images)


def test_samples_of_chosen_classes(networks):
    generator = networks[0]
    with torch.no_grad():  # a fresh network treats all classes alike
        generator.blocks[0].norm1.bias.weight.normal_()
    assert torch.equal(generator.sample(4, classes=1), generator.sample(4, classes=[1, 1]))
    assert not torch.equal(generator.sample(4, classes=1), generator.sample(4, classes=[1, 2]))
    assert generator.sample(0).shape == (0, 3, 32, 32)
    for wrong in (3, [0, -1], "dog"):
        with pytest.raises(ValueError, match="the generator has 3 classes, 0 to 2"):
            generator.sample(1, classes=wrong)


def test_the_repr_shows_the_shapes_of_the_layers(networks):
    text = repr(networks[0])
    assert "Linear(8, 256, bias=True, spectral_norm=True)" in text
    assert "3x3, resample=up, bias=True, spectral_norm=True)" in text and "num_classes=3" in text
