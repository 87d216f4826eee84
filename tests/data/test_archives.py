"""torchvision's data sets: layout, splits, and what is said when a download is impossible."""

from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from sagan.config import ConfigError, DataConfig, UserError
from sagan.data import open_data
from sagan.data.archives import ARCHIVES


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.parametrize("source", ARCHIVES)
def test_without_a_network_the_message_says_what_to_do(source, tmp_path, offline):
    with pytest.raises(UserError) as caught:
        open_data(DataConfig(source=source, path=str(tmp_path)))
    text = str(caught.value)
    _, site, files, folder = ARCHIVES[source]
    assert f"data.source {source}: not found in {tmp_path}" in text
    assert site + files in text and str(tmp_path / folder) in text
    assert "data.path" in text and "data.source=shapes" in text


def test_the_addresses_are_torchvisions():
    datasets = torchvision.datasets
    for source, kind in {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "stl10": datasets.STL10}.items():
        assert kind.url == ARCHIVES[source][1] + ARCHIVES[source][2]
        assert kind.filename == ARCHIVES[source][2]
    assert ARCHIVES["fashion-mnist"][1] in datasets.FashionMNIST.mirrors


class FakeSource:
    """Ten images in the layout of a torchvision data set; the test split is darker."""

    classes = ["a", "b"]

    def __init__(self, root, download, train=None, split=None):
        train = split == "train" if train is None else train
        rng = np.random.default_rng(0)
        shape = {"CIFAR10": (10, 32, 32, 3), "FashionMNIST": (10, 28, 28), "STL10": (10, 3, 96, 96)}[self.kind]
        self.data = rng.integers(0, 256, shape, np.uint8) // (1 if train else 2)
        self.labels = np.arange(10, dtype=np.uint8) % 2
        self.targets = self.labels.tolist()
        if self.kind == "FashionMNIST":
            self.data, self.targets = torch.from_numpy(self.data), torch.from_numpy(self.labels)


@pytest.mark.parametrize(
    ("source", "kind"), [("cifar10", "CIFAR10"), ("fashion-mnist", "FashionMNIST"), ("stl10", "STL10")]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_layouts(source, kind, channels, monkeypatch):
    fake = type(kind, (FakeSource,), {"kind": kind})
    monkeypatch.setattr(torchvision.datasets, kind, fake)
    options = DataConfig(source=source, channels=channels)
    data, test = open_data(options), open_data(options, split="test")
    assert data.images.shape == (10, channels, 32, 32) and data.class_names == ["a", "b"]
    assert data.labels.tolist() == [0, 1] * 5 and data.labels.dtype == torch.int64
    assert test.images.float().mean() < 0.6 * data.images.float().mean()
    if source == "cifar10" and channels == 3:
        np.testing.assert_array_equal(data.images.permute(0, 2, 3, 1).numpy(), fake(None, False, train=True).data)
    if source == "stl10" and channels == 3:  # channels stay channels: each plane's mean survives the resize
        means = fake(None, False, split="train").data.mean((2, 3))
        np.testing.assert_allclose(data.images.float().mean((2, 3)), means, atol=2)
    with pytest.raises(ConfigError, match="split 'val'"):
        open_data(options, split="val")
