"""The generator, for every image size."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sagan.config import GeneratorConfig
from sagan.layers import BatchNorm, Conv2d, Linear, evaluating, initialize, working_dtype
from sagan.models.blocks import GeneratorBlock
from sagan.models.input_checks import check_labels, check_latents, class_numbers, whole
from sagan.models.origin import Origin
from sagan.models.places import attention_by_block, norm_options
from sagan.models.sizes import GENERATOR_WIDTHS, Size, split_size
from sagan.runtime.draws import latents
from sagan.runtime.pictures import to_uint8


class Generator(nn.Module):
    """The generator: (N, z_dim) latents, (N,) labels or None -> (N, channels, H, W) images in [-1, 1], float32.

    Labels are None if it is unconditional. They may also be float weights over the classes, (N, num_classes), for
    images between classes. `forward` never updates the estimates of spectral norm; `sagan.layers.Spectral` does.

    Source: Zhang et al. 2019, section 4, and the authors' code; `sizes.py` has the widths for each size.
    """

    memory_format = torch.channels_last  # of the class: torch.save cannot write one

    def __init__(self, config: GeneratorConfig, size: Size, image_channels: int, num_classes: int):
        super().__init__()
        n, self.first_size = split_size(size)
        widths = [config.channels * m for m in (GENERATOR_WIDTHS[n][0], *GENERATOR_WIDTHS[n][1])]
        norm = norm_options(config)
        conditional: dict[str, Any] = dict(num_classes=num_classes, spectral_norm=config.norm_spectral, **norm)
        attentions = attention_by_block(config, size)

        self.z_dim = config.z_dim
        self.num_classes = num_classes
        self.size = size
        self.image_channels = image_channels
        self.origin: Origin | None = None
        self.compute_dtype = torch.float32

        a, b = self.first_size
        self.project = Linear(config.z_dim, widths[0] * a * b, spectral_norm=config.spectral_norm)
        self.blocks = nn.ModuleList()
        for (width_in, width_out), attention in zip(pairwise(widths), attentions, strict=True):
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
        """Return the images. Raise ValueError for inputs whose shapes or labels this network does not take."""
        check_latents(z, self.z_dim)
        check_labels(y, self.num_classes, z.shape[0], "the generator")
        h = self.project(z).unflatten(1, (-1, *self.first_size))  # (N, C, a, b)
        h = h.to(working_dtype(self.compute_dtype, self.project.weight), memory_format=self.memory_format)
        for block in self.blocks:
            h = block(h, y)  # (N, C_i, a 2^i, b 2^i)
        h = F.relu_(self.norm(h))
        return torch.tanh(self.to_image(h).to(z.dtype))  # (N, channels, H, W)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        classes: int | str | Sequence[int | str] | None = None,
        seed: int = 0,
        truncation: float = 0.0,
        batch_size: int = 64,
    ) -> Tensor:
        """Return `n` images, uint8 (n, channels, H, W) in 0..255, on the CPU.

        Image i is a function of the seed, i and its class: neither `n` nor `batch_size` changes it. Its class is
        `classes[i % len(classes)]`, by number or by name; None takes all classes in turn. Entries of z beyond
        `truncation` standard deviations are redrawn (Brock et al. 2019); 0 means never. The network runs in evaluation
        mode and is left unchanged.

        Raise ValueError for a class that does not exist, for classes of an unconditional generator, for a truncation
        below 0.01, or for an `n`, a seed or a batch size that is no such number.
        """
        n, seed, batch_size = whole(n, "n", 0), whole(seed, "seed", 0), whole(batch_size, "batch_size", 1)
        names = self.origin.class_names if self.origin else None
        numbers = class_numbers(classes, self.num_classes, names)
        device, dtype = self.project.weight.device, self.project.weight.dtype
        y = torch.tensor(numbers)[torch.arange(n) % len(numbers)].to(device) if numbers else None
        z = latents(seed, "sample", 0, n, self.z_dim, truncation)
        with evaluating(self):
            parts = [slice(i, i + batch_size) for i in range(0, n, batch_size)]
            images = [to_uint8(self(z[p].to(device, dtype), None if y is None else y[p])).cpu() for p in parts]
        return torch.cat(images) if images else torch.empty(0, self.image_channels, *self.size, dtype=torch.uint8)
