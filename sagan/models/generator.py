"""The generator: one class for every size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.attention import Place, attention_by_block
from sagan.config import GeneratorConfig
from sagan.models.blocks import GeneratorBlock
from sagan.models.layers import BatchNorm, Conv2d, Linear, initialize
from sagan.models.sizes import GENERATOR_WIDTHS, Size, generator_block_sizes, split_size


class Generator(nn.Module):
    """(N, z_dim) latents and (N,) labels, or None if unconditional -> (N, channels, H, W) images in [-1, 1], float32.

    Labels may also be weights over the classes, (N, num_classes) float, for images between classes.

    Source: Zhang et al. 2019, section 4, and the authors' code; widths by size in `sizes.py`.
    """

    def __init__(self, config: GeneratorConfig, size: Size, image_channels: int, num_classes: int):
        super().__init__()
        n, self.first_size = split_size(size)
        first, multiples = GENERATOR_WIDTHS[n]
        widths = [config.channels * m for m in (first, *multiples)]
        norm = dict(momentum=config.norm_momentum, eps=config.norm_eps, sync=config.norm_sync)
        conditional = dict(num_classes=num_classes, spectral_norm=config.norm_spectral, **norm)
        places = [
            Place(width, map_size, config.spectral_norm, batch_norm=True, norm=norm)
            for width, map_size in zip(widths[1:], generator_block_sizes(size), strict=True)
        ]
        attentions = attention_by_block(config.attention, places, "model.generator.attention")

        self.z_dim, self.num_classes, self.size, self.image_channels = config.z_dim, num_classes, size, image_channels
        self.compute_dtype, self.memory_format = torch.float32, torch.channels_last
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
