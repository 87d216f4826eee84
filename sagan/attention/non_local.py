"""Non-local blocks (Wang et al. 2018)."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, ProductOptions, expect_even, expect_width
from sagan.attention.functional import chunked_attention, dot_product_weights, from_tokens, scaled_dot_product, tokens
from sagan.layers import BatchNorm, Conv2d, Linear


@dataclass(frozen=True)
class NonLocalOptions(ProductOptions):
    form: Literal["gaussian", "embedded-gaussian", "dot-product", "concatenation"] = "embedded-gaussian"
    """How a pair of positions is scored."""
    subsample: Literal["none", "pool-first", "conv-first"] = "pool-first"
    """2x2 max-pooling of keys and values, before (the authors) or after their convolutions (SAGAN)."""
    scale: bool = True
    """Divide the logits of the softmax forms by the square root of their width (the authors' code; not the paper)."""


class NonLocalBlock(Attention):
    """y = x + gamma W_z z, with z_i = (1 / c) sum_j f(x_i, x_j) g(x_j), a weighted mean over positions.

    ==================  ============================  ================  =================  ===================
    form                f(x_i, x_j)                   c                 gate zero          gate none, with BN
    ==================  ============================  ================  =================  ===================
    gaussian            exp(x_i . x_j)                sum of f over j   C^2 + 1            C^2 + 3.5 C
    embedded-gaussian   exp(theta_i . phi_j)          sum of f over j   2 C^2 + 1          2 C^2 + 4.5 C
    dot-product         theta_i . phi_j               number of keys    2 C^2 + 1          2 C^2 + 4.5 C
    concatenation       ReLU(w . [theta_i; phi_j])    number of keys    2 C^2 + C + 1      2 C^2 + 5.5 C
    ==================  ============================  ================  =================  ===================

    g, theta and phi are 1x1 convolutions C -> C/2, W_z is one C/2 -> C. As published (gate `none`) they have biases and
    batch norm follows W_z, with a gain that starts at 0. A discriminator, without batch norm, keeps gamma in its place.

    The gaussian form scores x itself, whose square is unbounded: without the scale a pixel sees little but itself.

    Source: Wang et al. 2018, sections 3.2 and 3.3, and the authors' code (which has embedded-gaussian and dot-product).
    Raises ConfigError where C is odd, or where sub-sampling meets an odd height or width.
    """

    Options = NonLocalOptions

    def __init__(self, options: NonLocalOptions, place: Place):
        published = place.gate == "none"
        super().__init__(place, gamma=not (published and place.batch_norm))
        expect_width(place, 2)
        if options.subsample != "none":
            expect_even(place, f"options.subsample {options.subsample}")
        channels, inner = place.channels, place.channels // 2
        self.options = options
        convolution = dict(bias=published, spectral_norm=place.spectral_norm)
        if options.form != "gaussian":
            self.theta = Conv2d(channels, inner, 1, **convolution)
            self.phi = Conv2d(channels, inner, 1, **convolution)
        if options.form == "concatenation":
            self.pair = Linear(2 * inner, 1, bias=False, spectral_norm=place.spectral_norm)
        self.g = Conv2d(channels, inner, 1, **convolution)
        self.out = Conv2d(inner, channels, 1, **convolution)
        self.norm = nn.Identity()
        if published and place.batch_norm:
            self.norm = BatchNorm(channels, initial_gain=0.0, **place.norm)

    def transform(self, x: Tensor) -> Tensor:
        query, key, value = self.project(x)
        size, key_size = x.shape[2:], key.shape[2:]
        query, key, value = self.options.cast(tokens(query), tokens(key), tokens(value))  # (N, 1, L or P, channels)
        softmax = "gaussian" in self.options.form
        self.record(lambda: AttentionMap("matrix", self.weights(query, key), size, key_size, distribution=softmax))
        z = from_tokens(self.attend(query, key, value), size).to(x.dtype)  # (N, C/2, H, W)
        return self.norm(self.out(z))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What scores as query and key, and the value."""
        pool_first, conv_first = (self.options.subsample == s for s in ("pool-first", "conv-first"))
        keys = F.max_pool2d(x, 2) if pool_first else x
        gaussian = self.options.form == "gaussian"
        query, key, value = x if gaussian else self.theta(x), keys if gaussian else self.phi(keys), self.g(keys)
        return (query, F.max_pool2d(key, 2), F.max_pool2d(value, 2)) if conv_first else (query, key, value)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`weights(query, key) @ value`, without the (L, P) weights where algebra or a kernel allows it."""
        if self.options.form == "dot-product":
            return query @ (key.mT @ value / key.shape[2])
        if self.options.form == "concatenation":
            return chunked_attention(self.weights, query, key, value, per_query=key.shape[0] * key.shape[2])
        return scaled_dot_product(query, key, value, self.logit_scale(query))

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """(N, 1, L, d), (N, 1, P, d) -> (N, 1, L, P)."""
        if self.options.form == "dot-product":
            return query @ key.mT / key.shape[2]
        if self.options.form == "concatenation":
            w_theta, w_phi = self.pair.normalized_weight()[0].to(query.dtype).chunk(2)
            return F.relu((query @ w_theta)[..., :, None] + (key @ w_phi)[..., None, :]) / key.shape[2]
        return dot_product_weights(query, key, self.logit_scale(query))

    def logit_scale(self, query: Tensor) -> float:
        return query.shape[-1] ** -0.5 if self.options.scale else 1.0
