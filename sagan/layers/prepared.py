"""The weights of a network, prepared for a whole update by a few operations over all layers.

Unprepared, a layer divides its weight by sigma, fuses it with resampling and casts it to the dtype of its input in
every forward pass. In a small model, these hundreds of small operations take as long as the convolutions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sagan.layers.spectral import Conv2d, SingularVectors, Spectral, SpectralWeight


class Weights:
    """The weights of a network, for use in updates."""

    def __init__(self, network: nn.Module):
        layers = [m for m in network.modules() if isinstance(m, SpectralWeight)]
        self.parameters = list(network.parameters())
        self.spectral = Spectral(layer for layer in layers if layer.spectral_norm)
        self.convolutions = [layer for layer in layers if isinstance(layer, Conv2d)]

    @contextmanager
    def prepared(self, dtype: torch.dtype, *, power_iteration: bool, gradients: bool = True) -> Iterator[None]:
        """Let the layers use weights that are prepared once, for the duration of the block.

        `dtype` is the dtype of the activations. With `power_iteration`, one comes first. The weights must not
        change in the block. Gradients flow to them as usual unless `gradients` is false. Several passes in the block
        share this part of the graph.
        """
        vectors = self.spectral.iterate() if power_iteration else self.spectral.vectors()
        try:
            with torch.set_grad_enabled(gradients and torch.is_grad_enabled()):
                self._prepare(dtype, vectors)
            yield
        finally:
            for layer in self.spectral.layers:
                layer.operands.weight = None
            for layer in self.convolutions:
                layer.operands.by_dtype = {}

    def _prepare(self, dtype: torch.dtype, vectors: SingularVectors) -> None:
        layers = self.spectral.layers
        for layer, weight in zip(layers, normalize(layers, vectors), strict=True):
            layer.operands.weight = weight
        operands = [(layer.kernel(), layer.bias) for layer in self.convolutions]
        rounded = iter(cast([t for pair in operands for t in pair if t is not None], dtype))
        for layer, (kernel, bias) in zip(self.convolutions, operands, strict=True):
            layer.operands.by_dtype = {kernel.dtype: (kernel, bias)}
            layer.operands.by_dtype[dtype] = next(rounded), None if bias is None else next(rounded)


def normalize(layers: Sequence[SpectralWeight], vectors: SingularVectors) -> Sequence[Tensor]:
    """Return every W / sigma, with sigma = u^T W v as a function of W and constants u and v."""
    return _Normalize.apply(layers, vectors, *(layer.weight for layer in layers)) if layers else []


def cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> Sequence[Tensor]:
    """Return the tensors in another dtype, in their memory layouts."""
    return tensors if all(t.dtype == dtype for t in tensors) else _Cast.apply(dtype, *tensors)


class _Normalize(torch.autograd.Function):
    """Division by sigma. Written out, because automatic differentiation takes five operations per layer."""

    @staticmethod
    def forward(ctx, layers: Sequence[SpectralWeight], vectors: SingularVectors, *weights: Tensor):
        ctx.layers, ctx.vectors = layers, vectors
        ctx.save_for_backward(*weights)
        return tuple(torch._foreach_div(weights, vectors.sigma))

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        """Return dL/dW = (g - <g, W / sigma> u v^T) / sigma for every g = dL/d(W / sigma), in the layout of W."""
        layers, (us, vs, sigmas) = ctx.layers, ctx.vectors
        weights = [layer.matrix(w) for layer, w in zip(layers, ctx.saved_tensors, strict=True)]
        gs = [layer.matrix(g) for layer, g in zip(layers, gradients, strict=True)]
        products = [torch.dot(g.flatten(), w.flatten()) for g, w in zip(gs, weights, strict=True)]
        us = torch._foreach_mul(us, torch._foreach_div(products, sigmas))
        results = [torch.addr(g, u, v, alpha=-1) for g, u, v in zip(gs, us, vs, strict=True)]
        torch._foreach_div_(results, sigmas)
        return None, None, *(layer.unmatrix(r) for layer, r in zip(layers, results, strict=True))


class _Cast(torch.autograd.Function):
    """Conversion to another dtype; gradients come back in the dtype and the layout of the original tensors."""

    @staticmethod
    def forward(ctx, dtype: torch.dtype, *tensors: Tensor):
        ctx.save_for_backward(*tensors)
        results = [torch.empty_like(t, dtype=dtype) for t in tensors]
        torch._foreach_copy_(results, tensors)
        return tuple(results)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        results = [torch.empty_like(t) for t in ctx.saved_tensors]
        torch._foreach_copy_(results, gradients)
        return None, *results
