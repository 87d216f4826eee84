"""Layers with spectral normalization, class-conditional batch normalization and fused resampling."""

from sagan.layers.initial import drawn
from sagan.layers.network import evaluating, initialize, working_dtype
from sagan.layers.norm import BatchNorm
from sagan.layers.prepared import Weights
from sagan.layers.spectral import Conv2d, Embedding, Linear, Spectral, SpectralWeight, spectral_weights

__all__ = [
    "BatchNorm",
    "Conv2d",
    "Embedding",
    "Linear",
    "Spectral",
    "SpectralWeight",
    "Weights",
    "drawn",
    "evaluating",
    "initialize",
    "spectral_weights",
    "working_dtype",
]
