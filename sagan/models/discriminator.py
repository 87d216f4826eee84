"""The projection discriminator, for every image size."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.config import DiscriminatorConfig
from sagan.layers import Embedding, Linear, initialize, working_dtype
from sagan.models.blocks import DiscriminatorBlock
from sagan.models.input_checks import check_images, check_labels
from sagan.models.origin import Origin
from sagan.models.places import attention_by_block
from sagan.models.sizes import DISCRIMINATOR_WIDTHS, Size, discriminator_downsamples, split_size


class Discriminator(nn.Module):
    """The discriminator: (N, channels, H, W) images in [-1, 1], (N,) labels or None -> (N,) logits, float32.

    Labels are None if it is unconditional. No layer uses batch statistics, so real and fake images may share a batch.
    `forward` never updates the estimates of spectral norm; `sagan.layers.Spectral` does.

    Source: Zhang et al. 2019, section 4, and the authors' code; Miyato and Koyama 2018 for the projection.
    """

    memory_format = torch.channels_last  # of the class: torch.save cannot write one

    def __init__(self, config: DiscriminatorConfig, size: Size, image_channels: int, num_classes: int):
        super().__init__()
        widths = [image_channels, *(config.channels * m for m in DISCRIMINATOR_WIDTHS[split_size(size)[0]])]
        downs = discriminator_downsamples(size)
        attentions = attention_by_block(config, size)

        self.num_classes = num_classes
        self.size = size
        self.image_channels = image_channels
        self.origin: Origin | None = None
        self.compute_dtype = torch.float32

        self.blocks = nn.ModuleList()
        for i, ((width_in, width_out), attention) in enumerate(zip(pairwise(widths), attentions, strict=True)):
            self.blocks.append(
                DiscriminatorBlock(
                    width_in,
                    width_out,
                    config.spectral_norm,
                    down=downs[i],
                    first=i == 0,
                    attention=attention,
                    in_residual=config.attention.placement == "in_residual",
                )
            )
        self.logit = Linear(widths[-1], 1, spectral_norm=config.spectral_norm)
        self.embedding = None
        if num_classes:
            self.embedding = Embedding(num_classes, widths[-1], spectral_norm=config.spectral_norm)
        initialize(self, config.init)

    def forward(self, images: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the logits. Raise ValueError for inputs whose shapes or labels this network does not take."""
        check_images(images, self.image_channels, self.size)
        check_labels(y, self.num_classes, images.shape[0], "the discriminator")
        dtype = working_dtype(self.compute_dtype, self.logit.weight)
        h = images.to(dtype, memory_format=self.memory_format)  # (N, channels, H, W)
        for block in self.blocks:
            h = block(h)  # (N, C_i, H_i, W_i)
        h = F.relu(h).to(self.logit.weight.dtype).sum((2, 3))  # (N, C): sum pooling; logits in float32
        logits = self.logit(h).squeeze(1)  # (N,)
        return logits if self.embedding is None else logits + (self.embedding(y) * h).sum(1)
