"""Differentiable augmentation against loops over pixels."""

import pytest
import torch

from sagan.training.augment import POLICIES, color, cutout, diffaugment, translation


def images_and_draws(n=5, height=16, width=24):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 3, height, width, generator=generator) * 2 - 1, torch.rand(n, 7, generator=generator)


def test_translation_is_a_shift_with_zeros_from_outside():
    images, uniform = images_and_draws()
    n, _, height, width = images.shape
    expected = torch.zeros_like(images)
    shifts = set()
    for i in range(n):
        dy = int(uniform[i, 3] * 5) - 2  # an eighth of 16 is 2, of 24 is 3
        dx = int(uniform[i, 4] * 7) - 3
        shifts.add((dy, dx))
        for row in range(height):
            for column in range(width):
                if 0 <= row + dy < height and 0 <= column + dx < width:
                    expected[i, :, row, column] = images[i, :, row + dy, column + dx]
    assert len(shifts) > 2
    assert torch.equal(translation(images, uniform), expected)


def test_translation_reaches_both_ends_and_no_further():
    images, uniform = images_and_draws(2)
    uniform[:, 3:5] = torch.tensor([[0.0, 0.0], [1 - 2**-24, 1 - 2**-24]])
    shifted = translation(images, uniform)
    assert torch.equal(shifted[0, :, 2:, 3:], images[0, :, :-2, :-3]) and not shifted[0, :, :2].any()
    assert torch.equal(shifted[1, :, :-2, :-3], images[1, :, 2:, 3:]) and not shifted[1, :, -2:].any()


def test_cutout_clears_half_of_each_side_around_a_centre():
    images, uniform = images_and_draws(40)
    out = cutout(images, uniform)
    for i in range(len(images)):
        top, left = int(uniform[i, 5] * 17) - 4, int(uniform[i, 6] * 25) - 6
        expected = images[i].clone()
        expected[:, max(top, 0) : top + 8, max(left, 0) : left + 12] = 0
        assert torch.equal(out[i], expected)


def test_color_changes_brightness_then_saturation_then_contrast():
    images, uniform = images_and_draws()
    for i, image in enumerate(images):
        brightness, saturation, contrast = uniform[i, :3].tolist()
        expected = image + brightness - 0.5
        grey = expected.mean(0, keepdim=True)
        expected = grey + (expected - grey) * saturation * 2
        expected = expected.mean() + (expected - expected.mean()) * (contrast + 0.5)
        torch.testing.assert_close(color(images, uniform)[i], expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_reach_the_image(policy):
    images, uniform = images_and_draws()
    images.requires_grad_()
    diffaugment(images, [policy], uniform).square().sum().backward()
    assert images.grad.abs().sum((1, 2, 3)).min() > 0


def test_policies_are_applied_in_the_order_given_and_each_image_has_its_own_draw():
    images, uniform = images_and_draws()
    out = diffaugment(images, ["cutout", "translation"], uniform)
    assert torch.equal(out, translation(cutout(images, uniform), uniform))
    assert not torch.equal(out, cutout(translation(images, uniform), uniform))
    alone = diffaugment(images[2:3], ["cutout", "translation"], uniform[2:3])
    assert torch.equal(out[2:3], alone)
