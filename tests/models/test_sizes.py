"""The table of sizes: those that exist, and the blocks of each."""

import pytest

from sagan.config import ConfigError
from sagan.models.sizes import (
    DISCRIMINATOR_WIDTHS,
    GENERATOR_WIDTHS,
    attention_blocks,
    discriminator_block_sizes,
    discriminator_downsamples,
    generator_block_sizes,
    split_size,
)

# size: n, sizes of G's block outputs, of D's
BLOCKS = {
    (32, 32): (3, [8, 16, 32], [16, 8, 8, 8]),
    (64, 64): (4, [8, 16, 32, 64], [32, 16, 8, 4, 4]),
    (128, 128): (5, [8, 16, 32, 64, 128], [64, 32, 16, 8, 4, 4]),
    (256, 256): (6, [8, 16, 32, 64, 128, 256], [128, 64, 32, 16, 8, 4, 4]),
    (512, 512): (7, [8, 16, 32, 64, 128, 256, 512], [256, 128, 64, 32, 16, 8, 4, 4]),
    (48, 48): (3, [12, 24, 48], [24, 12, 12, 12]),
    (56, 56): (3, [14, 28, 56], [28, 14, 14, 14]),
    (96, 96): (4, [12, 24, 48, 96], [48, 24, 12, 6, 6]),
    (640, 640): (7, [10, 20, 40, 80, 160, 320, 640], [320, 160, 80, 40, 20, 10, 5, 5]),
    (64, 32): (4, [(8, 4), (16, 8), (32, 16), (64, 32)], [(32, 16), (16, 8), (8, 4), (4, 2), (4, 2)]),
    (16, 40): (3, [(4, 10), (8, 20), (16, 40)], [(8, 20), (4, 10), (4, 10), (4, 10)]),
    (96, 224): (
        5,
        [(6, 14), (12, 28), (24, 56), (48, 112), (96, 224)],
        [(48, 112), (24, 56), (12, 28), (6, 14), (3, 7), (3, 7)],
    ),
}


def pairs(sizes):
    return [(s, s) if isinstance(s, int) else s for s in sizes]


@pytest.mark.parametrize("size", BLOCKS)
def test_block_sizes(size):
    n, of_generator, of_discriminator = BLOCKS[size]
    assert split_size(size)[0] == n
    assert generator_block_sizes(size) == pairs(of_generator)
    assert discriminator_block_sizes(size) == pairs(of_discriminator)


@pytest.mark.parametrize(
    "size", [(30, 30), (33, 32), (24, 24), (16, 16), (8, 8), (1024, 1024), (32, 256), (128, 16), (0, 32)]
)
def test_refuses_other_sizes_naming_the_option_and_the_value(size):
    shown = str(size[0]) if size[0] == size[1] else f"[{size[0]}, {size[1]}]"
    with pytest.raises(ConfigError, match="data.resolution") as caught:
        split_size(size)
    assert shown in str(caught.value)


def test_every_size_of_the_rule_has_exactly_one_row():
    for n in GENERATOR_WIDTHS:
        for a in range(2, 8):
            for b in range(2, 8):
                if max(a, b) >= 4:
                    assert split_size((a << n, b << n)) == (n, (a, b))


def test_widths_are_those_of_the_reference():
    assert GENERATOR_WIDTHS == {
        3: (4, (4, 4, 4)),
        4: (16, (8, 4, 2, 1)),
        5: (16, (16, 8, 4, 2, 1)),
        6: (16, (16, 8, 8, 4, 2, 1)),
        7: (16, (16, 8, 8, 4, 2, 1, 1)),
    }
    assert DISCRIMINATOR_WIDTHS == {
        3: (2, 2, 2, 2),
        4: (1, 2, 4, 8, 16),
        5: (1, 2, 4, 8, 16, 16),
        6: (1, 2, 4, 8, 8, 16, 16),
        7: (1, 1, 2, 4, 8, 8, 16, 16),
    }


def test_all_blocks_but_the_last_downsample_and_at_32_two_do():
    assert discriminator_downsamples((32, 32)) == [True, True, False, False]
    for size in ((64, 64), (128, 128), (256, 256), (512, 512)):
        *first, last = discriminator_downsamples(size)
        assert all(first) and not last


def test_attention_follows_the_first_block_whose_shorter_side_matches():
    assert attention_blocks(discriminator_block_sizes((32, 32)), [8], "o", (32, 32)) == {1}  # three blocks have 8
    assert attention_blocks(generator_block_sizes((64, 32)), [16, 8], "o", (64, 32)) == {1, 2}


def test_an_error_for_a_size_that_no_block_has_lists_those_that_exist():
    with pytest.raises(ConfigError, match=r"attention.resolutions 12: no block .* 32x32 has .* 8, 16, 32"):
        attention_blocks(generator_block_sizes((32, 32)), [12], "model.generator.attention.resolutions", (32, 32))
