"""The generator: one class for every size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.config import GeneratorConfig
from sagan.layers import BatchNorm, Conv2d, Linear, initialize
from sagan.models.blocks import GeneratorBlock
from sagan.models.origin import Origin
from sagan.models.places import attention_by_block
from sagan.models.sizes import GENERATOR_WIDTHS, Size, split_size


class Generator(nn.Module):
    """(N, z_dim) latents and (N,) labels, or None if unconditional -> (N, channels, H, W) images in [-1, 1], float32.

    Labels may also be weights over the classes, (N, num_classes) float, for images between classes.

    Source: Zhang et al. 2019, section 4, and the authors' code; widths by size in `sizes.py`.
    """

    def __init__(self, config: GeneratorConfig, size: Size, image_channels: int, num_classes: int):
        super().__init__()
        n, self.first_size = split_size(size)
        widths = [config.channels * m for m in (GENERATOR_WIDTHS[n][0], *GENERATOR_WIDTHS[n][1])]
        norm = dict(momentum=config.norm_momentum, eps=config.norm_eps, sync=config.norm_sync)
        conditional = dict(num_classes=num_classes, spectral_norm=config.norm_spectral, **norm)
        attentions = attention_by_block(config, size)

        self.z_dim = config.z_dim
        self.num_classes = num_classes
        self.size = size
        self.image_channels = image_channels
        self.origin: Origin | None = None
        self.compute_dtype = torch.float32
        self.memory_format = torch.channels_last

        a, b = self.first_size
        self.project = Linear(config.z_dim, widths[0] * a * b, spectral_norm=config.spectral_norm)
        self.blocks = nn.ModuleList()
        for width_in, width_out, attention in zip(widths, widths[1:], attentions, strict=False):
            self.blocks.append(
                GeneratorBlock(
                    width_in,
                    width_out,
                    config.spectral_norm,
                    conditional,
                    attention=attention,
                    in_residual=config.attention.placement == "in_residual",
                )
            )
        self.norm = BatchNorm(widths[-1], **norm)
        self.to_image = Conv2d(widths[-1], image_channels, 3, spectral_norm=config.spectral_norm)
        initialize(self, config.init)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if (y is None) != (self.num_classes == 0):
            raise ValueError(
                f"y is {'missing' if y is None else 'given'}, and the generator has {self.num_classes} classes"
            )
        h = self.project(z).unflatten(1, (-1, *self.first_size))  # (N, C, a, b)
        h = h.to(self.compute_dtype, memory_format=self.memory_format)
        for block in self.blocks:
            h = block(h, y)  # (N, C_i, a 2^i, b 2^i)
        h = F.relu(self.norm(h))
        return torch.tanh(self.to_image(h).to(z.dtype))  # (N, channels, H, W)
