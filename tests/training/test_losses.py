"""Hinge losses against their closed form."""

import pytest
import torch

from sagan.training.losses import discriminator_hinge, generator_hinge


def test_hinge_losses():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 1.0])
    assert discriminator_hinge(real, fake).item() == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 2) / 3)
    assert generator_hinge(fake).item() == pytest.approx((3 + 0 - 1) / 3)


def test_beyond_the_margin_the_discriminator_gets_no_gradient():
    real, fake = torch.tensor([1.5, 0.5], requires_grad=True), torch.tensor([-1.5, -0.5], requires_grad=True)
    discriminator_hinge(real, fake).backward()
    assert real.grad.tolist() == [0, -0.5] and fake.grad.tolist() == [0, 0.5]
