"""Scenes of two parts: what they share, what they do not, and that rules read both off the image."""

import colorsys

import numpy as np
import pytest
import torch

from sagan.config import ConfigError, DataConfig
from sagan.data import open_data
from sagan.data.pairs import PAIRS, PairsDataset, disc_coverage, far_places, hsv_to_rgb, near_places, variation
from sagan.data.rules import foreground
from sagan.evaluation.agreement import agreement

SIZES = [(32, 32), (64, 32), (16, 32), (48, 48), (128, 128)]


def scenes(source, n=200, size=(32, 32), channels=3, first=0):
    return PairsDataset(source, size, channels).batch(torch.arange(first, first + n))


def centres(images):
    """Centre of each half's part, in pixels of the image: float (n, 2, 2), by part and then x, y."""
    weights = foreground(images.double() / 255)
    x, y = torch.arange(images.shape[3]) + 0.5, torch.arange(images.shape[2]) + 0.5
    found = []
    for half, across in zip(weights.chunk(2, 2), x.chunk(2), strict=True):
        found.append(torch.stack([(half * across).sum((1, 2)), (half * y[:, None]).sum((1, 2))], 1))
        found[-1] /= half.sum((1, 2))[:, None]
    return torch.stack(found, 1).numpy()


@pytest.mark.parametrize("source", PAIRS)
def test_a_scene_depends_on_its_number_alone(source):
    data = PairsDataset(source, (32, 32), 3)
    together = data.batch(torch.arange(40))
    assert together.dtype == torch.uint8 and together.shape == (40, 3, 32, 32)
    assert torch.equal(together[[17, 3]], data.batch(torch.tensor([17, 3])))
    assert together.flatten(1).unique(dim=0).shape[0] == 40
    assert data.batch(torch.arange(0)).shape == (0, 3, 32, 32)


def test_splits_are_disjoint_and_have_no_classes():
    train, test = PairsDataset("pairs", (32, 32), 3), PairsDataset("pairs", (32, 32), 3, "test")
    assert (len(train), len(test)) == (8000, 2000)
    assert not set(train.numbers) & set(test.numbers)
    assert train.class_names == [] and train.labels.unique().tolist() == [0]
    with pytest.raises(ConfigError, match="valid.*pairs has train and test"):
        PairsDataset("pairs", (32, 32), 3, "valid")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("source", PAIRS)
def test_real_scenes_keep_their_rule_and_shuffled_halves_do_not(source, size):
    images, rule = scenes(source, 400, size), PAIRS[source].rule
    real = agreement(rule.read(images), rule)
    assert real.both_parts == 1 and real.score >= 0.99
    order = images[:, :, 0, 0].sum(1, dtype=torch.long).argsort()  # the new halves have nearly one background
    left, right = images[order].chunk(2, 3)
    shuffled = agreement(rule.read(torch.cat([left, right.roll(1, 0)], 3)), rule)
    # The gap of 400 independent pairs has a standard error of 0.029 of chance for hues, and of 0.013 for 16 cells.
    assert shuffled.both_parts > 0.99 and abs(shuffled.score) < 0.09


def test_the_hue_that_is_read_is_the_one_that_was_drawn():
    """Of pure hues, in degrees; the circle of the RGB cube and that of HSV differ by 1.1 degrees at most."""
    hues = np.linspace(0, 1, 49)[:-1]
    expected = [colorsys.hsv_to_rgb(hue, 0.9, 0.95) for hue in hues]
    np.testing.assert_allclose(hsv_to_rgb(hues), expected, atol=1e-12)
    data = PairsDataset("pairs", (64, 64), 3)
    drawn = np.array([variation(i)[0] for i in range(300)])
    read = data.rule.read(data.batch(torch.arange(300)))[:, :, 0].numpy()
    turns = (read - 360 * drawn[:, None] + 180) % 360 - 180
    assert np.abs(turns).max() < 1.5


def test_the_pattern_that_is_read_is_the_one_that_was_drawn():
    data = PairsDataset("pairs-pattern", (32, 32), 1)
    drawn = torch.tensor(np.array([variation(i)[7:] >= 0.5 for i in range(300)])).float()
    read = data.rule.read(data.batch(torch.arange(300)))
    assert torch.equal(read[:, 0], drawn) and torch.equal(read[:, 1], drawn)


@pytest.mark.parametrize("source", PAIRS)
def test_nothing_but_the_shared_property_relates_the_halves(source):
    """Far apart, places and background are independent: all correlations of 2,000 scenes are within 4 standard errors.
    Near, the distance is short."""
    images = scenes(source, 2000)
    places = centres(images)
    grey = images[:, :, 0, 0].double().mean(1).numpy()
    if source == "pairs-near":
        distance = np.hypot(*(places[:, 1] - places[:, 0]).T)
        assert 8.9 < distance.min() and distance.max() < 11.4  # of discs with a diameter of 8
        return
    columns = np.column_stack([places[:, 0], places[:, 1], grey])
    correlation = np.corrcoef(columns.T)[np.triu_indices(5, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(2000)
    low, high = places.min(0), places.max(0)
    np.testing.assert_allclose(low, [[5, 6], [21, 6]], atol=0.7)
    np.testing.assert_allclose(high, [[11, 26], [27, 26]], atol=0.7)


@pytest.mark.parametrize("size", SIZES)
def test_each_disc_keeps_to_its_half_and_is_whole(size):
    draws = np.array([variation(i) for i in range(300)])
    for places in (far_places(draws), near_places(draws, size)):
        left, right = (disc_coverage(place, size) for place in places)
        middle = size[1] // 2
        assert left[:, :, middle:].max() == right[:, :, :middle].max() == 0
        area = np.pi * (min(size) / 8) ** 2
        for disc in (left, right):
            np.testing.assert_allclose(disc.sum((1, 2)), area, rtol=0.06)


def test_rules_survive_blur_and_noise():
    """As small generators paint: a 3x3 mean, and noise of 5 % of the range."""
    images = scenes("pairs", 500)
    blurred = torch.nn.functional.avg_pool2d(images.float(), 3, 1, 1, count_include_pad=False)
    noise = 12 * torch.randn(blurred.shape, generator=torch.Generator().manual_seed(0))
    rule = PAIRS["pairs"].rule
    found = agreement(rule.read((blurred + noise).clamp(0, 255).byte()), rule)
    assert found.both_parts == 1 and found.score > 0.98


@pytest.mark.parametrize("source", PAIRS)
def test_missing_parts_are_seen(source):
    images, rule = scenes(source, 50), PAIRS[source].rule
    images[:25, :, :, 16:] = images[:25, :, :1, :1]  # background over the right half
    present = ~rule.read(images).isnan().any(2)
    assert present[:, 0].all() and not present[:25, 1].any() and present[25:, 1].all()
    assert rule.read(images[:1] * 0 + 128).isnan().all()


def test_a_part_without_colour_has_no_hue():
    images = scenes("pairs", 50)
    images[:, :, :, :16] = images[:, :, :, :16].double().mean(1, keepdim=True).byte()
    left, right = PAIRS["pairs"].rule.read(images)[:, :, 0].isnan().unbind(1)
    assert left.all() and not right.any()


def test_the_sources_open_by_name_in_memory_with_their_rule():
    for source in PAIRS:
        data = open_data(DataConfig(source))
        assert len(data) == 8000 and data.residence == "in memory" and data.rule is PAIRS[source].rule
        assert torch.equal(data.batch(torch.tensor([4321])), scenes(source, 1, first=4321))
    assert open_data(DataConfig("pairs", memory_gb=0), "test").rule is PAIRS["pairs"].rule
    assert open_data(DataConfig("shapes", memory_gb=0)).rule is None


def test_hues_need_colour_and_patterns_do_not():
    for source in ("pairs", "pairs-near"):
        with pytest.raises(ConfigError, match=f"data.channels 1: data.source {source} is about colour, so expected 3"):
            open_data(DataConfig(source, channels=1))
    grey, rgb = scenes("pairs-pattern", 20, channels=1), scenes("pairs-pattern", 20)
    assert torch.equal(grey.expand(-1, 3, -1, -1), rgb)
    rule = PAIRS["pairs-pattern"].rule
    assert torch.equal(rule.read(grey), rule.read(rgb))


def test_classes_are_refused():
    with pytest.raises(ConfigError, match="data.num_classes 10: pairs .train. has no classes"):
        open_data(DataConfig("pairs", num_classes=10))
