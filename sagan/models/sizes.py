"""What a resolution means: the number of up-samplings, and the widths and map sizes of the blocks.

One row per number of up-samplings n, as multiples of the base width. Row 5 is the paper's 128 x 128 model (the authors'
TensorFlow code), row 3 the 32 x 32 model of SNGAN and its descendants. Imports no torch: the configuration reads it.
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
    """n and the first map (a, b) of an image of a*2^n by b*2^n, with a and b in 2..7 and the larger at least 4.

    Raises ConfigError where there is no such n in 3..7.
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
    """Height and width of each generator block's output; each doubles the map before it."""
    n, (a, b) = split_size(size)
    return [(a << i, b << i) for i in range(1, n + 1)]


def discriminator_downsamples(size: Size) -> list[bool]:
    """Whether each discriminator block halves its map: two do at n = 3, all but the last from n = 4 on."""
    n, _ = split_size(size)
    blocks = len(DISCRIMINATOR_WIDTHS[n])
    halving = 2 if n == 3 else blocks - 1
    return [i < halving for i in range(blocks)]


def discriminator_block_sizes(size: Size) -> list[Size]:
    """Height and width of each discriminator block's output."""
    h, w = size
    sizes = []
    for halves in discriminator_downsamples(size):
        h, w = (h // 2, w // 2) if halves else (h, w)
        sizes.append((h, w))
    return sizes


def attention_blocks(sizes: list[Size], resolutions: list[int], option: str) -> dict[int, Size]:
    """Index -> map size of the blocks after which attention stands: the first whose output's shorter side matches.

    Raises ConfigError, with the sizes that exist, for a resolution that no block has.
    """
    shorter = [min(s) for s in sizes]
    for resolution in resolutions:
        if resolution not in shorter:
            exist = ", ".join(str(s) for s in sorted(set(shorter)))
            raise ConfigError(f"{option} {resolution}: no block has an output of that size; those that exist: {exist}")
    return {shorter.index(r): sizes[shorter.index(r)] for r in sorted(set(resolutions))}
