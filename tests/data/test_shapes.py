"""The procedural scenes: determinism, and parts that agree."""

import numpy as np
import pytest
import torch

from sagan.config import ConfigError
from sagan.data.shapes import CLASSES, DISTANCES, ShapesDataset, draw_scenes, variation

POINT_SYMMETRIC = [i for i, c in enumerate(CLASSES) if c.shape != "triangle"]


def foreground(images):
    """Difference from the background, which the corner of the image's outer frame shows: float (n, H, W)."""
    background = images[:, :, :1, :1].astype(float)
    return np.abs(images - background).sum(1)


def test_a_scene_depends_on_its_number_alone():
    data = ShapesDataset((32, 32), 3)
    together = data.batch(torch.arange(40))
    assert torch.equal(together[[17, 3]], data.batch(torch.tensor([17, 3])))
    assert torch.equal(together, ShapesDataset((32, 32), 3).batch(torch.arange(40)))
    assert together.flatten(1).unique(dim=0).shape[0] == 40


def test_splits_are_disjoint_and_balanced():
    train, test = ShapesDataset((32, 32), 3), ShapesDataset((32, 32), 3, "test")
    assert (len(train), len(test)) == (10_000, 2_000)
    assert not set(train.numbers) & set(test.numbers)
    assert train.labels.bincount().tolist() == [1000] * 10
    assert len(train.class_names) == 10
    with pytest.raises(ConfigError, match="valid.*train and test"):
        ShapesDataset((32, 32), 3, "valid")


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (128, 128)])
@pytest.mark.parametrize("label", POINT_SYMMETRIC)
def test_point_symmetric_scenes_equal_their_half_turn(label, size):
    images = draw_scenes([label + 10 * i for i in range(20)], size, 3).astype(int)
    assert np.abs(images - images[:, :, ::-1, ::-1]).max() <= 1


def test_second_triangle_is_the_first_one_moved():
    label = next(i for i, c in enumerate(CLASSES) if c.shape == "triangle")
    for number in range(label, 200, 10):
        mass = foreground(draw_scenes([number], (128, 128), 3))[0]
        halves = mass[:, :64], mass[:, 64:]
        assert halves[0].sum() == pytest.approx(halves[1].sum(), rel=0.02)
        centres = [
            np.array([(half.sum(1) @ np.arange(128)), half.sum(0) @ np.arange(64)]) / half.sum() for half in halves
        ]
        _, dx, dy, *_ = variation(number)
        expected = -2 * 64 * np.array([0.05 * dy, 0.05 * dx - 0.51]) - [
            0,
            64,
        ]  # second minus first, in pixels of its half
        np.testing.assert_allclose(centres[1] - centres[0], expected, atol=0.5)


def test_parts_vary_together_but_scenes_vary():
    """Mass of one half of the image, over scenes of a class: equal to the other half's, spread between scenes."""
    for label, kind in enumerate(CLASSES):
        mass = foreground(draw_scenes([label + 10 * i for i in range(50)], (64, 64), 3))
        axis = 2 if kind.place[0] else 1
        first, second = (part.sum((1, 2)) for part in np.split(mass, 2, axis=axis))
        assert np.abs(first - second).max() / first.mean() < 0.03
        assert first.std() / first.mean() > 0.1


def test_class_averages_are_far_apart():
    """Coarse differences, which a small model learns soon: mean images differ by more than scenes of a class vary."""
    images = ShapesDataset((32, 32), 3).batch(torch.arange(1000)).float().view(100, 10, -1)
    means = images.mean(0)
    nearest = torch.cdist(images.transpose(0, 1), means[None].expand(10, -1, -1)).argmin(-1)  # (class, scene)
    assert (nearest == torch.arange(10)[:, None]).float().mean() > 0.97


def test_edges_are_antialiased_and_resolutions_agree():
    coarse, fine = draw_scenes(list(range(10)), (32, 32), 3), draw_scenes(list(range(10)), (128, 128), 3)
    pooled = fine.reshape(10, 3, 32, 4, 32, 4).mean((3, 5))
    assert np.abs(coarse - pooled).mean() < 1.5


def test_grey_scenes_are_the_luma():
    grey, rgb = draw_scenes(list(range(10)), (32, 32), 1), draw_scenes(list(range(10)), (32, 32), 3)
    assert grey.shape == (10, 1, 32, 32)
    assert np.abs(grey[:, 0] - np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], rgb)).max() <= 1


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_are_distances(name):
    """Negative inside, positive far away, and no steeper than 1, or edges would not be one pixel wide."""
    axis = np.linspace(-3, 3, 601)
    x, y = np.meshgrid(axis, axis)
    distance = DISTANCES[name](x, y)
    assert distance.min() < -0.2 and distance[0, 0] > 1
    slopes = np.hypot(*(np.diff(distance, axis=a)[:600, :600] / 0.01 for a in (0, 1)))
    assert np.median(slopes) == pytest.approx(1, abs=0.05) and slopes.max() < 1.05 * np.sqrt(2)
