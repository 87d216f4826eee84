"""Non-local blocks (Wang et al. 2018)."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, ProductOptions, expect_even, expect_width
from sagan.attention.functional import chunked_attention, dot_product_weights, from_tokens, scaled_dot_product, tokens
from sagan.layers import BatchNorm, Conv2d, Linear


@dataclass(frozen=True)
class NonLocalOptions(ProductOptions):
    """The options of kind `non-local`."""

    form: Literal["gaussian", "embedded-gaussian", "dot-product", "concatenation"] = "embedded-gaussian"
    """Function that scores a pair of positions."""
    subsample: Literal["none", "pool-first", "conv-first"] = "pool-first"
    """2x2 max-pooling of keys and values, before (the authors) or after (SAGAN) their convolutions."""
    scale: bool = True
    """Divide the logits of the softmax forms by the square root of their width, as the authors' code does."""


class NonLocalBlock(Attention):
    """Non-local block: y = x + gamma W_z z, with the weighted mean z_i = (1 / c) sum_j f(x_i, x_j) g(x_j).

    ==================  ============================  ================  =================  ===================
    form                f(x_i, x_j)                   c                 gate zero          gate none, with BN
    ==================  ============================  ================  =================  ===================
    gaussian            exp(x_i . x_j)                sum of f over j   C^2 + 1            C^2 + 3.5 C
    embedded-gaussian   exp(theta_i . phi_j)          sum of f over j   2 C^2 + 1          2 C^2 + 4.5 C
    dot-product         theta_i . phi_j               number of keys    2 C^2 + 1          2 C^2 + 4.5 C
    concatenation       ReLU(w . [theta_i; phi_j])    number of keys    2 C^2 + C + 1      2 C^2 + 5.5 C
    ==================  ============================  ================  =================  ===================

    g, theta and phi are 1x1 convolutions C -> C/2, W_z is one C/2 -> C. In the published form (gate `none`) they have
    biases, and batch norm with a gain that starts at 0 follows W_z. A discriminator, which has no batch norm, keeps
    gamma instead.

    The gaussian form scores x itself, whose square is unbounded: without the scale, a pixel attends mostly to itself.

    Source: Wang et al. 2018, sections 3.2 and 3.3, and the authors' code (which has embedded-gaussian and dot-product).
    Raise ConfigError if C is odd, or if sub-sampling is on and height or width is odd.
    """

    Options = NonLocalOptions

    def __init__(self, options: NonLocalOptions, place: Place):
        published = place.gate == "none"
        super().__init__(place, gamma=not (published and place.batch_norm))
        expect_width(place, 2)
        if options.subsample != "none":
            expect_even(place, f"options.subsample {options.subsample}")
        channels = place.channels
        inner = channels // 2
        self.options = options
        conv1x1 = partial(Conv2d, kernel_size=1, bias=published, spectral_norm=place.spectral_norm)
        if options.form != "gaussian":
            self.theta = conv1x1(channels, inner)
            self.phi = conv1x1(channels, inner)
        if options.form == "concatenation":
            self.pair = Linear(2 * inner, 1, bias=False, spectral_norm=place.spectral_norm)
        self.g = conv1x1(channels, inner)
        self.out = conv1x1(inner, channels)
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
        """Return query, key and value as maps."""
        pool_first, conv_first = (self.options.subsample == s for s in ("pool-first", "conv-first"))
        keys = F.max_pool2d(x, 2) if pool_first else x
        gaussian = self.options.form == "gaussian"
        query, key, value = x if gaussian else self.theta(x), keys if gaussian else self.phi(keys), self.g(keys)
        return (query, F.max_pool2d(key, 2), F.max_pool2d(value, 2)) if conv_first else (query, key, value)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return `weights(query, key) @ value`, without the (L, P) weights if algebra or a kernel can avoid them."""
        if self.options.form == "dot-product":
            return query @ (key.mT @ value / key.shape[2])
        if self.options.form == "concatenation":
            return chunked_attention(self.weights, query, key, value, per_query=key.shape[0] * key.shape[2])
        return scaled_dot_product(query, key, value, self.logit_scale(query))

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """Return f(x_i, x_j) / c: (N, 1, L, d), (N, 1, P, d) -> (N, 1, L, P)."""
        if self.options.form == "dot-product":
            return query @ key.mT / key.shape[2]
        if self.options.form == "concatenation":
            # As columns: onnxruntime 1.32 multiplies a transposed tensor by a vector wrongly.
            w_theta, w_phi = self.pair.normalized_weight()[0, :, None].to(query.dtype).chunk(2)
            return F.relu(query @ w_theta + (key @ w_phi).mT) / key.shape[2]
        return dot_product_weights(query, key, self.logit_scale(query))

    def logit_scale(self, query: Tensor) -> float:
        """Return the factor of the logits: 1 / sqrt(d) for queries (N, 1, L, d) if they are scaled, else 1."""
        return query.shape[-1] ** -0.5 if self.options.scale else 1.0
