"""Global context (Cao et al. 2019): a non-local block simplified to one row of weights for all positions."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention.base import Attention, AttentionMap, Place, reduced_width
from sagan.config import ConfigError
from sagan.layers import Conv2d, Linear


@dataclass(frozen=True)
class GlobalContextOptions:
    """The options of kind `global-context`."""

    reduction: int = 16
    """Reduction of the bottleneck, which has C / reduction channels."""


class GlobalContext(Attention):
    """Global context: y = x + gamma W_2 ReLU(LayerNorm(W_1 c)), with one c = sum_j softmax_j(w . x_j) x_j per image.

    w is a 1x1 convolution C -> 1 without a bias, which the softmax would cancel. W_1 and W_2 are linear with biases,
    C -> C/r -> C. 2 C^2 / r + 2 C + 3 C / r + 1 parameters. In the published form (gate `none`), W_2 starts at 0
    instead of gamma; under spectral norm it cannot, so gamma remains.

    Source: Cao et al. 2019, section 3.4 (fusion by addition). Raise ConfigError if the reduction does not divide C, or
    leaves fewer than 2 channels for the layer norm. With exactly 2, the norm keeps only which of them is larger: at
    small widths, choose a smaller reduction.
    """

    Options = GlobalContextOptions

    def __init__(self, options: GlobalContextOptions, place: Place):
        super().__init__(place, gamma=not place.zero_weights)
        channels = place.channels
        hidden = reduced_width(place, options.reduction)
        if hidden < 2:
            raise ConfigError(f"options.reduction {options.reduction}: expected to leave at least 2 channels")
        self.score = Conv2d(channels, 1, 1, bias=False, spectral_norm=place.spectral_norm)
        self.squeeze = Linear(channels, hidden, spectral_norm=place.spectral_norm)
        self.norm = nn.LayerNorm(hidden)
        self.excite = Linear(hidden, channels, spectral_norm=place.spectral_norm, zero=place.zero_weights)

    def transform(self, x: Tensor) -> Tensor:
        values = x.flatten(2).to(self.norm.weight.dtype)  # (N, C, L)
        weights = torch.softmax(self.score(x).flatten(2).to(values.dtype), dim=-1)  # (N, 1, L)
        self.record(lambda: AttentionMap("matrix", weights[:, None], (1, 1), x.shape[2:], distribution=True))
        context = (values @ weights.mT).squeeze(2)  # (N, C)
        h = F.relu(self.norm(self.squeeze(context)))  # (N, C/r)
        return self.excite(h)[:, :, None, None].to(x.dtype)  # (N, C, 1, 1), added to every position
