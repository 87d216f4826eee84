"""Data sets given from Python."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from sagan.config import ConfigError, DataConfig, UserError
from sagan.data import summarize
from sagan.data.given import GivenDataset, wrap_dataset
from tests.helpers.training_images import training_images

IMAGES = torch.randint(0, 256, (7, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])
DATA = DataConfig(resolution=[32, 48])


class Named(TensorDataset):
    classes = ("ant", "bee", "cow")


@pytest.mark.parametrize("memory_gb", [4.0, 0.0])
def test_images_labels_and_names_are_those_given(memory_gb):
    data = wrap_dataset(Named(IMAGES, LABELS), replace(DATA, memory_gb=memory_gb))
    assert isinstance(data, GivenDataset) == (memory_gb == 0)
    assert torch.equal(data.batch(torch.tensor([6, 2, 2])), IMAGES[[6, 2, 2]])
    assert torch.equal(data.labels, LABELS) and data.class_names == ["ant", "bee", "cow"]
    assert data.size == (32, 48) and data.channels == 3 and len(data) == 7
    assert data.fingerprint == wrap_dataset(Named(IMAGES, LABELS), DATA).fingerprint
    other = wrap_dataset(Named(255 - IMAGES, LABELS), DATA)
    assert data.fingerprint != other.fingerprint


def test_the_same_batches_whether_in_memory_or_read_by_workers():
    sets = [wrap_dataset(Named(IMAGES, LABELS), replace(DATA, memory_gb=gb)) for gb in (4.0, 0.0)]
    one, two = (training_images(d, 3, seed=0, batch_size=4, flip=True, workers=2) for d in sets)
    for (a, y), (b, z) in zip(one, two, strict=True):
        assert torch.equal(a, b) and torch.equal(y, z)


def test_names_are_numbers_if_there_are_none():
    assert wrap_dataset(TensorDataset(IMAGES, LABELS), DATA).class_names == ["0", "1", "2"]


@pytest.mark.parametrize("classes", [np.array(["ant", "bee", "cow"]), ["ant", "bee", "cow", "dog"][:3]])
def test_names_come_from_any_sequence_and_from_the_whole_of_a_part(classes):
    given = TensorDataset(IMAGES, LABELS)
    given.classes = classes
    part = Subset(Subset(given, range(6)), range(5))
    for data in (wrap_dataset(given, DATA), wrap_dataset(part, DATA)):
        assert data.class_names == ["ant", "bee", "cow"]


def test_too_few_names_are_a_warning(caplog):
    given = TensorDataset(IMAGES, LABELS)
    given.classes = ["ant", "bee"]
    assert wrap_dataset(given, DATA).class_names == ["0", "1", "2"]
    assert "`classes` has 2 names for 3 classes: numbers are used" in caplog.text


def test_a_data_set_may_return_the_same_memory_each_time():
    class Buffered(TensorDataset):
        buffer = torch.empty_like(IMAGES[0])

        def __getitem__(self, index):
            return self.buffer.copy_(IMAGES[index]), LABELS[index]

    data = wrap_dataset(Buffered(IMAGES, LABELS), replace(DATA, memory_gb=0))
    assert torch.equal(data.batch(torch.arange(7)), IMAGES)


def test_arrays_and_numpy_labels_are_taken():
    items = [(IMAGES[i].numpy(), np.int64(LABELS[i])) for i in range(7)]
    assert torch.equal(wrap_dataset(items, DATA).batch(torch.arange(7)), IMAGES)
    flipped = [(image[::-1, :, ::-1], label) for image, label in items]  # BGR, mirrored: negative strides
    assert torch.equal(wrap_dataset(flipped, DATA).batch(torch.arange(7)), IMAGES.flip(1, 3))


def test_classes_of_the_same_name_are_told_apart():
    """ImageNet has two cranes."""
    given = Named(IMAGES, LABELS)
    given.classes = ["crane", "ant", "crane"]
    data = wrap_dataset(given, DATA)
    assert data.class_names == ["crane (0)", "ant", "crane (2)"]
    assert summarize(data)[0][2] == "3 classes: crane (0) 3, ant 2, crane (2) 2"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([(IMAGES[0].float(), 0)], r"dataset\[0\]: the image is float32 \(3, 32, 48\), expected uint8 \(3, 32, 48\)"),
        ([(IMAGES[0], 0), (IMAGES[1, :, :16], 0)], r"dataset\[1\]: the image is uint8 \(3, 16, 48\), expected uint8"),
        ([(IMAGES[0].numpy().astype(object), 0)], r"dataset\[0\]: the image is an array of object, expected uint8"),
        ([(IMAGES[0], -1)], r"dataset\[0\]: the label is -1, expected an integer from 0 to 99,999"),
        ([(IMAGES[0], 0.5)], r"dataset\[0\]: the label is 0.5, expected an integer from 0 to 99,999"),
        ([(IMAGES[0], None)], r"dataset\[0\]: the label is null, expected an integer from 0 to 99,999"),
        ([(IMAGES[0], "cat")], r"dataset\[0\]: the label is cat, expected an integer from 0 to 99,999"),
        ([("image.png", 0)], r"dataset\[0\]: the image is a str, expected a uint8 tensor"),
        ([IMAGES[0]], r"dataset\[0\]: Tensor, expected a pair \(image, label\)"),
        (iter([]), "dataset list_iterator: expected a data set with a length and items by index"),
    ],
)
def test_items_that_do_not_fit_are_named(given, message):
    with pytest.raises(ConfigError, match=message):
        wrap_dataset(given, DATA)


def test_an_empty_data_set_is_refused():
    with pytest.raises(UserError, match="dataset list: it is empty"):
        wrap_dataset([], DATA)
