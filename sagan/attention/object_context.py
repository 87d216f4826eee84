"""Object context (Yuan and Wang 2018, OCNet): base-OC, pyramid-OC and ASP-OC."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, ProductOptions, batch_norm, expect_even, expect_width
from sagan.attention.functional import dot_product_weights, from_window_tokens, scaled_dot_product, window_tokens
from sagan.config import ConfigError
from sagan.layers import Conv2d

# The published dropout (0.05 and 0.1 of the channels) is omitted: a resumed run could not restore its random state, and
# a generator has enough noise.


class ConvNorm(nn.Module):
    """A convolution, batch norm if the network has it, and a leaky ReLU of slope 0.01 ("ABN" in the authors' code)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        place: Place,
        *,
        size: int = 1,
        dilation: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        bias = bias or not place.batch_norm  # without batch norm, its bias is still needed
        self.conv = Conv2d(
            in_channels, out_channels, size, bias=bias, dilation=dilation, spectral_norm=place.spectral_norm
        )
        self.norm = batch_norm(out_channels, place)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), 0.01)


class ContextBlock(nn.Module):
    """Attention with one projection as query and key: W_o sum_k softmax_k(k_q . k_k / sqrt(d)) v_k.

    (N, C, H, W) -> (N, C, H, W). With `windows` s > 1, positions attend only within their own of s x s windows. With
    `pool`, attention runs on the 2x2 max-pooled map and its result is enlarged.
    """

    def __init__(
        self,
        options: ProductOptions,
        place: Place,
        channels: int,
        key: int,
        value: int,
        *,
        windows: int = 1,
        pool: bool = False,
    ):
        super().__init__()
        self.cast = options.cast
        self.windows = windows
        self.pool = pool
        self.key = ConvNorm(channels, key, place)
        self.value = Conv2d(channels, value, 1, spectral_norm=place.spectral_norm)
        self.out = Conv2d(value, channels, 1, spectral_norm=place.spectral_norm, zero=place.zero_weights)

    def forward(self, x: Tensor, record: Callable[[Callable[[], AttentionMap]], None]) -> Tensor:
        """Return the context of x. `record` gets a function that makes the map, as `Attention.record` does."""
        size = x.shape[2:]
        if self.pool:
            x = F.max_pool2d(x, 2)
        s, inner = self.windows, x.shape[2:]
        key, value = self.cast(window_tokens(self.key(x), s), window_tokens(self.value(x), s))  # (N, s s, L', channels)
        scale = key.shape[-1] ** -0.5
        kind, key_size = ("matrix", inner) if s == 1 else ("windowed matrix", (inner[0] // s, inner[1] // s))
        record(lambda: AttentionMap(kind, dot_product_weights(key, key, scale), inner, key_size, distribution=True))
        o = from_window_tokens(scaled_dot_product(key, key, value, scale), s, inner)  # (N, V, H, W)
        context = self.out(o.to(x.dtype))
        return F.interpolate(context, size, mode="bilinear", align_corners=True) if self.pool else context


@dataclass(frozen=True)
class BaseContextOptions(ProductOptions):
    """The options of kind `base-oc`."""


class BaseContext(Attention):
    """base-OC: T(x) = f([context(x); x]), with C/2 keys and values; f is a normalized 1x1 convolution 2C -> C.

    In the published form (gate `none`), the last convolution of the context starts at 0, unless it is under spectral
    norm. 3.5 C^2 + 6 C + 1 parameters with batch norm, 3.5 C^2 + 3 C + 1 without.

    Source: Yuan and Wang 2018, section 3.2, and the authors' code. Raise ConfigError if C is odd.
    """

    Options = BaseContextOptions
    rewrites = True

    def __init__(self, options: BaseContextOptions, place: Place):
        super().__init__(place)
        expect_width(place, 2)
        channels = place.channels
        self.context = ContextBlock(options, place, channels, channels // 2, channels // 2)
        self.fuse = ConvNorm(2 * channels, channels, place)

    def transform(self, x: Tensor) -> Tensor:
        return self.fuse(torch.cat([self.context(x, self.record), x], dim=1))


@dataclass(frozen=True)
class PyramidContextOptions(ProductOptions):
    """The options of kind `pyramid-oc`."""

    windows: list[int] = field(default_factory=list)
    """Windows per side, one number per level. Empty: 1, plus 2, 4 and 8 if windows keep at least 4 pixels per side."""


class PyramidContext(Attention):
    """pyramid-OC: T(x) = f([u; c_1; ...; c_n]), with one context c_i for each level of s_i x s_i windows.

    u is a normalized 1x1 convolution C -> nC of x, each c_i has C/2 keys and C values, and f is a normalized 1x1
    convolution 2nC -> C. n (2.5 C^2 + 3.5 C) + n (C^2 + 3 C) + 2 n C^2 + 3 C + 1 parameters with batch norm; without,
    2.5 C replaces 3.5 C and C replaces each 3 C. The paper's levels are 1, 2, 3 and 6; the defaults are powers of 2,
    which divide a GAN's maps.

    Source: Yuan and Wang 2018, section 3.2, and the authors' code. Raise ConfigError if C is odd, or if the map cannot
    be split into equal windows of at least 2 x 2.
    """

    Options = PyramidContextOptions
    rewrites = True

    def __init__(self, options: PyramidContextOptions, place: Place):
        super().__init__(place)
        expect_width(place, 2)
        channels = place.channels
        levels = options.windows or default_windows(place)
        for s in levels:
            if s < 1 or any(side % s or side // s < 2 for side in place.size):
                raise ConfigError(
                    f"options.windows {options.windows}: expected divisors of height and width that leave windows of "
                    "at least 2 x 2"
                )
        self.contexts = nn.ModuleList(
            ContextBlock(options, place, channels, channels // 2, channels, windows=s) for s in levels
        )
        self.widen = ConvNorm(channels, len(levels) * channels, place)
        self.fuse = ConvNorm(2 * len(levels) * channels, channels, place)

    def transform(self, x: Tensor) -> Tensor:
        contexts = [context(x, self.record) for context in self.contexts]
        return self.fuse(torch.cat([self.widen(x), *contexts], dim=1))


def default_windows(place: Place) -> list[int]:
    """Return the default levels: 1 and 2 on a map of 8, also 4 on one of 16, also 8 from 32 on."""
    return [1] + [s for s in (2, 4, 8) if all(side % s == 0 and side // s >= 4 for side in place.size)]


@dataclass(frozen=True)
class AspContextOptions(ProductOptions):
    """The options of kind `asp-oc`."""

    dilations: list[int] = field(default_factory=list)
    """Dilations of the 3x3 convolutions, one per branch. Empty: 1/8, 2/8 and 3/8 of the map's shorter side."""


class AspContext(Attention):
    """ASP-OC: context next to an atrous spatial pyramid, T(x) = f([a(context(b(x))); conv1x1(x); conv3x3_d(x) ...]).

    All branches have c = C/2 channels and are normalized. b is 3x3, a is 1x1, and f is 1x1, 5c -> C. The context, with
    c/2 keys and c values, runs on the 2x2 max-pooled map. With three dilations d: 21.875 C^2 + 10.75 C + 1 parameters
    with batch norm, 21.875 C^2 + 5.25 C + 1 without.

    The paper's dilations (12, 24, 36) suit its large maps; a dilation as large as the map reduces a kernel to its
    centre.

    Source: Yuan and Wang 2018, section 3.2, and the authors' code. Raise ConfigError if C is not a multiple of 4, if a
    dilation is not smaller than the map, or if height or width is odd.
    """

    Options = AspContextOptions
    rewrites = True

    def __init__(self, options: AspContextOptions, place: Place):
        super().__init__(place)
        expect_width(place, 4)
        expect_even(place, "the context's pooling")
        shorter = min(place.size)
        dilations = options.dilations or [d * max(shorter // 8, 1) for d in (1, 2, 3)]
        if min(dilations) < 1 or max(dilations) >= shorter:
            raise ConfigError(f"options.dilations {dilations}: expected 1 to {shorter - 1}, less than the shorter side")
        channels = place.channels
        c = channels // 2
        self.before = ConvNorm(channels, c, place, size=3)
        self.context = ContextBlock(options, place, c, c // 2, c, pool=True)
        self.after = ConvNorm(c, c, place)
        self.point = ConvNorm(channels, c, place, bias=False)
        self.atrous = nn.ModuleList(ConvNorm(channels, c, place, size=3, dilation=d, bias=False) for d in dilations)
        self.fuse = ConvNorm((2 + len(dilations)) * c, channels, place, bias=False)

    def transform(self, x: Tensor) -> Tensor:
        context = self.after(self.context(self.before(x), self.record))  # (N, c, H, W)
        return self.fuse(torch.cat([context, self.point(x), *(conv(x) for conv in self.atrous)], dim=1))
