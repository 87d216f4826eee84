"""The single list of attention kinds and option variants that all tests here use."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import log2

import torch

from sagan.attention import Attention, Place, build_attention
from sagan.attention.sagan import control_widths
from sagan.config import AttentionConfig
from sagan.layers import initialize


@dataclass(frozen=True)
class Case:
    """A kind with options and its number of parameters with gate `zero`: f(C, H, W, with batch norm)."""

    kind: str
    parameters: Callable[[int, int, int, bool], float]
    options: dict = field(default_factory=dict)
    maps: tuple[str, ...] = ("matrix",)

    @property
    def size(self) -> tuple[int, int]:
        """Return the size of a small map that exercises all of the kind; not square, so that swapped axes show."""
        large = self.kind == "pyramid-oc" or self.options.get("extent") == 8 or self.options.get("depth") == 2
        return (8, 12) if large else (4, 6)

    @property
    def has_norm(self) -> bool:
        return self.kind in ("base-oc", "pyramid-oc", "asp-oc", "ge", "cbam", "residual-attention", "coordinate")

    @property
    def exact(self) -> bool:
        """Return whether the kind computes in the precision of its input."""
        return self.options.get("precision") != "bf16"

    def __str__(self) -> str:
        return "-".join([self.kind, *(f"{k}={v}" for k, v in self.options.items())])


def _control(c, h, w, bn):
    a, b = control_widths(c)
    return c * a + 9 * a * b + b * c + 1


def _pyramid(n):
    return lambda c, h, w, bn: (
        n * (2.5 * c**2 + (3.5 if bn else 2.5) * c)
        + n * (c**2 + (3 if bn else 1) * c)
        + 2 * n * c**2
        + (3 if bn else 1) * c
        + 1
    )


def _ge(variant, extent):
    def parameters(c, h, w, bn):
        if variant == "theta-minus":
            return 1
        gather = c * (h * w + (2 if bn else 1)) if extent == "global" else (11 if bn else 10) * c * log2(extent)
        return gather + (c**2 / 8 + c / 16 + c if variant == "theta-plus" else 0) + 1

    return parameters


def _mask(depth):
    return lambda c, h, w, bn: (3 * depth + 3) * (17 * c**2 / 16 + 3 * c * bn) + 2 * c**2 + 4 * c * bn + 1


CASES = [
    Case("residual", _control, maps=()),
    Case("sagan", lambda c, h, w, bn: 1.25 * c**2 + 1),
    Case("sagan", lambda c, h, w, bn: 1.25 * c**2 + 1, {"precision": "bf16"}),
    Case("sagan", lambda c, h, w, bn: c**2 / 2 + 1, {"variant": "paper"}),
    Case("sagan", lambda c, h, w, bn: 1.25 * c**2 + 1.25 * c + 1, {"variant": "v1"}),
    Case("multihead", lambda c, h, w, bn: 4 * c**2 + 1),
    Case("multihead", lambda c, h, w, bn: 4 * c**2 + 4 * c + 1, {"heads": 4, "bias": True, "pool": "max"}),
    Case("multihead", lambda c, h, w, bn: 4 * c**2 + 1, {"heads": 2, "positions": "sinusoidal", "pool": "average"}),
    Case("multihead", lambda c, h, w, bn: 4 * c**2 + c * h * w + 1, {"positions": "learned"}),
    Case("multihead", lambda c, h, w, bn: 4 * c**2 + (2 * h + 2 * w - 2) * c / 8 + 1, {"positions": "relative"}),
    Case(
        "multihead",
        lambda c, h, w, bn: 4 * c**2 + (2 * h + 2 * w - 2) * c / 4 + 1,
        {"heads": 4, "positions": "relative", "pool": "max"},
    ),
    Case("additive", lambda c, h, w, bn: 1.25 * c**2 + c / 8 + 1),
    Case("additive", lambda c, h, w, bn: 1.25 * c**2 + c / 4 + 1, {"pool": False, "bias": True}),
    Case("non-local", lambda c, h, w, bn: c**2 + 1, {"form": "gaussian"}),
    Case("non-local", lambda c, h, w, bn: c**2 + 1, {"form": "gaussian", "subsample": "conv-first"}),
    Case("non-local", lambda c, h, w, bn: 2 * c**2 + 1),
    Case("non-local", lambda c, h, w, bn: 2 * c**2 + 1, {"scale": False, "subsample": "none"}),
    Case("non-local", lambda c, h, w, bn: 2 * c**2 + 1, {"form": "dot-product", "subsample": "conv-first"}),
    Case("non-local", lambda c, h, w, bn: 2 * c**2 + c + 1, {"form": "concatenation"}),
    Case("base-oc", lambda c, h, w, bn: 3.5 * c**2 + (6 if bn else 3) * c + 1),
    Case("pyramid-oc", _pyramid(2), maps=("matrix", "windowed matrix")),
    Case("pyramid-oc", _pyramid(1), {"windows": [4]}, maps=("windowed matrix",)),
    Case("asp-oc", lambda c, h, w, bn: 21.875 * c**2 + (10.75 if bn else 5.25) * c + 1),
    Case("se", lambda c, h, w, bn: c**2 / 8 + c / 16 + c + 1, maps=("channel gate",)),
    Case("se", lambda c, h, w, bn: c**2 / 4 + 1, {"reduction": 8, "bias": False}, maps=("channel gate",)),
    *(
        Case("ge", _ge(variant, extent), {"variant": variant, "extent": extent}, maps=("full gate",))
        for variant in ("theta-minus", "theta", "theta-plus")
        for extent in (2, 4, 8, "global")
    ),
    Case(
        "cbam",
        lambda c, h, w, bn: c**2 / 8 + c / 16 + c + (100 if bn else 99) + 1,
        maps=("channel gate", "spatial gate"),
    ),
    Case(
        "cbam",
        lambda c, h, w, bn: c**2 / 4 + c / 8 + c + 1,
        {"parts": "channel", "reduction": 8},
        maps=("channel gate",),
    ),
    Case("cbam", lambda c, h, w, bn: (100 if bn else 99) + 1, {"parts": "spatial"}, maps=("spatial gate",)),
    Case("residual-attention", _mask(1), maps=("full gate",)),
    Case("residual-attention", _mask(2), {"depth": 2, "normalization": "channel"}, maps=("full gate",)),
    Case("residual-attention", _mask(1), {"normalization": "spatial"}, maps=("full gate",)),
    Case("global-context", lambda c, h, w, bn: c**2 / 8 + 2 * c + 3 * c / 16 + 1),
    Case("eca", lambda c, h, w, bn: int(log2(c) / 2 + 0.5) // 2 * 2 + 2, maps=("channel gate",)),
    Case("eca", lambda c, h, w, bn: 8, {"kernel_size": 7}, maps=("channel gate",)),
    Case(
        "coordinate",
        lambda c, h, w, bn: 3 * c * max(8, c // 32) + (3 if bn else 1) * max(8, c // 32) + 2 * c + 1,
        maps=("full gate",),
    ),
]

SIZE = (8, 12)  # fits every case


def build(
    kind: str,
    options: dict | None = None,
    *,
    channels: int = 32,
    size: tuple[int, int] = SIZE,
    spectral_norm: bool = False,
    batch_norm: bool = True,
    norm: dict | None = None,
    gate: str = "zero",
) -> Attention:
    """Return a layer with seeded initial weights."""
    torch.manual_seed(0)
    place = Place(channels, size, spectral_norm, batch_norm, norm or {})
    layer = build_attention(AttentionConfig(kind=kind, gate=gate, options=options or {}), place)
    initialize(layer, "xavier")
    return layer


def open_gate(layer: Attention, gain: float = 0.7) -> Attention:
    """Give the layer random biases, tables, statistics and gains, so that all of them affect the output."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "gain" in name:
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif parameter.dim() < 2 or "bias" in name or "table" in name:
                parameter.normal_(0, 0.5, generator=generator)
        for name, buffer in layer.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.5, generator=generator)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2, generator=generator)
        if layer.gamma is not None:
            layer.gamma.fill_(gain)
    return layer


def images(channels: int = 32, size: tuple[int, int] = SIZE, number: int = 2, dtype=torch.float32) -> torch.Tensor:
    """Return random activations in channels_last."""
    x = torch.randn(number, channels, *size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x.to(dtype, memory_format=torch.channels_last)
