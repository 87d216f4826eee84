"""The blocks for each resolution: their number, widths and map sizes.

The tables have one row per number of up-samplings n; widths are multiples of the base width. Row 5 is the paper's
128 x 128 model (the authors' TensorFlow code), row 3 the 32 x 32 model of SNGAN and its descendants. This module
imports no torch, because the configuration reads it.
"""

from sagan.config import ConfigError

Size = tuple[int, int]  # height, width

# n: (width of the first map, widths of the block outputs)
GENERATOR_WIDTHS: dict[int, tuple[int, tuple[int, ...]]] = {
    3: (4, (4, 4, 4)),
    4: (16, (8, 4, 2, 1)),
    5: (16, (16, 8, 4, 2, 1)),
    6: (16, (16, 8, 8, 4, 2, 1)),
    7: (16, (16, 8, 8, 4, 2, 1, 1)),
}
# n: widths of the block outputs
DISCRIMINATOR_WIDTHS: dict[int, tuple[int, ...]] = {
    3: (2, 2, 2, 2),
    4: (1, 2, 4, 8, 16),
    5: (1, 2, 4, 8, 16, 16),
    6: (1, 2, 4, 8, 8, 16, 16),
    7: (1, 1, 2, 4, 8, 8, 16, 16),
}


def split_size(size: Size) -> tuple[int, Size]:
    """Return n and (a, b) for images of a*2^n by b*2^n, with a and b in 2..7 and the larger at least 4.

    (a, b) is the size of the generator's first map. Raise ConfigError if no n in 3..7 fits.
    """
    for n in GENERATOR_WIDTHS:
        first = (size[0] >> n, size[1] >> n)
        exact = (first[0] << n, first[1] << n) == tuple(size)
        if exact and min(first) >= 2 and 4 <= max(first) <= 7:
            return n, first
    shown = size[0] if size[0] == size[1] else list(size)
    raise ConfigError(
        f"data.resolution {shown}: expected a*2^n by b*2^n with n in 3..7, a and b in 2..7 and the larger of them "
        "at least 4, such as 32, 48, 64, 96, 128, 256, 512 or [64, 32]"
    )


def generator_block_sizes(size: Size) -> list[Size]:
    """Return height and width of each generator block's output; each block doubles its input."""
    n, (a, b) = split_size(size)
    return [(a << i, b << i) for i in range(1, n + 1)]


def discriminator_downsamples(size: Size) -> list[bool]:
    """Return whether each discriminator block halves its input: the first two at n = 3, else all but the last."""
    n, _ = split_size(size)
    blocks = len(DISCRIMINATOR_WIDTHS[n])
    halving = 2 if n == 3 else blocks - 1
    return [i < halving for i in range(blocks)]


def discriminator_block_sizes(size: Size) -> list[Size]:
    """Return height and width of each discriminator block's output."""
    h, w = size
    sizes = []
    for halves in discriminator_downsamples(size):
        h, w = (h // 2, w // 2) if halves else (h, w)
        sizes.append((h, w))
    return sizes


def attention_blocks(sizes: list[Size], resolutions: list[int], option: str, image_size: Size) -> set[int]:
    """Return the indices of the blocks with attention in a network for images of a size.

    For each resolution, it is the first block whose output has that shorter side. Raise ConfigError, listing the
    existing sizes, if there is none.
    """
    shorter = [min(s) for s in sizes]
    for resolution in resolutions:
        if resolution not in shorter:
            exist = ", ".join(str(s) for s in sorted(set(shorter)))
            network = "a network for images of {}x{}".format(*image_size)
            raise ConfigError(f"{option} {resolution}: no block of {network} has that size; expected one of {exist}")
    return {shorter.index(r) for r in resolutions}
