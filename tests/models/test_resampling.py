"""Fused resampling, compared with an independent definition."""

import pytest
import torch
import torch.nn.functional as F

from sagan import build_discriminator, build_generator
from sagan.layers import Conv2d, resampling
from sagan.layers.resampling import SHIFTS, plain_conv_pool, plain_upsample_conv, pool_kernel, upsample_kernel

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def upsample_conv(x, weight, bias):
    kernel = weight if weight.shape[-1] == 1 else upsample_kernel(weight, torch.tensor(SHIFTS, dtype=weight.dtype))
    return resampling.upsample_conv(x, kernel.to(x.dtype), bias)


def conv_pool(x, weight, bias):
    kernel = weight if weight.shape[-1] == 1 else pool_kernel(weight, torch.tensor(SHIFTS, dtype=weight.dtype))
    return resampling.conv_pool(x, kernel.to(x.dtype), bias)


def upsample_by_definition(x, weight, bias):
    repeated = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return F.conv2d(repeated, weight, bias, padding=weight.shape[-1] // 2)


def pool_by_definition(x, weight, bias):
    h = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    height, width = h.shape[2] // 2 * 2, h.shape[3] // 2 * 2  # an odd last row or column is dropped
    h = h[:, :, :height, :width]
    return (h[:, :, ::2, ::2] + h[:, :, 1::2, ::2] + h[:, :, ::2, 1::2] + h[:, :, 1::2, 1::2]) / 4


def output_and_gradients(function, x, weight, bias):
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    output = function(*leaves)
    direction = torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view(output.shape)
    return [output, *torch.autograd.grad((output * direction).sum(), leaves)]


@pytest.mark.parametrize("size", [(4, 4), (8, 6), (5, 7), (2, 3)])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("definition", "functions"),
    [
        (upsample_by_definition, (upsample_conv, plain_upsample_conv)),
        (pool_by_definition, (conv_pool, plain_conv_pool)),
    ],
    ids=["up", "down"],
)
def test_equals_the_definition_with_gradients(definition, functions, dtype, kernel, size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=dtype)
    weight, bias = torch.randn(5, 3, kernel, kernel, dtype=dtype), torch.randn(5, dtype=dtype)
    expected = output_and_gradients(definition, x, weight, bias)
    for function in functions:
        for ours, theirs in zip(output_and_gradients(function, x, weight, bias), expected, strict=True):
            assert ours.shape == theirs.shape
            assert (ours - theirs).abs().max() <= TOLERANCE[dtype] * theirs.abs().max()


@pytest.mark.parametrize("function", [upsample_conv, conv_pool])
def test_builds_the_fused_kernel_in_float32_before_it_rounds(function):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 16, 8, 8), torch.randn(8, 16, 3, 3)
    exact = function(x.bfloat16().float(), weight, None)
    rounded = function(x.bfloat16(), weight, None)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().max() < 0.01 * exact.abs().max()


def test_both_networks_are_the_same_with_and_without_fusion(make_config, monkeypatch):
    config = make_config()
    generator, discriminator = build_generator(config).eval(), build_discriminator(config)
    z, y = torch.randn(4, generator.z_dim), torch.tensor([0, 1, 2, 0])
    images = generator(z, y)
    logits = discriminator(images, y)
    monkeypatch.setattr(Conv2d, "fused", False)
    torch.testing.assert_close(generator(z, y), images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(discriminator(images, y), logits, rtol=1e-4, atol=1e-4)
