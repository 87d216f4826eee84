"""The order of training is a function of (seed, batch number)."""

import logging
import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image

from sagan.config import ConfigError, UserError
from sagan.data import MemoryDataset, TrainingBatches
from sagan.data.folder import open_folder
from sagan.data.reading import read_ahead
from tests.helpers.training_images import training_images


def numbered(count):
    """Images that carry their index in the first pixel; the second differs, so that a mirrored one shows."""
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(count)
    images[:, 0, 0, 1] = 200
    return MemoryDataset(images, torch.arange(count) % 5, [f"c{i}" for i in range(5)], "numbers")


def batches(dataset, count, **options):
    return training_images(dataset, count, **{"seed": 3, "batch_size": 8, "flip": False} | options)


def indices_of(found):
    return torch.cat([((real[:, 0, 0, 0] + 1) * 127.5).round().long() for real, _ in found])


def equal(a, b):
    return all(torch.equal(x, y) for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True))


def test_each_epoch_is_another_permutation():
    order = indices_of(batches(numbered(50), 25)).view(4, 50)  # 200 draws: four epochs, most batches inside one
    for epoch in order:
        assert epoch.sort().values.tolist() == list(range(50))
    assert len({tuple(epoch.tolist()) for epoch in order}) == 4
    assert order[0].tolist() != list(range(50))


def test_labels_belong_to_their_images():
    found = batches(numbered(50), 10)
    assert torch.equal(indices_of(found) % 5, torch.cat([y for _, y in found]))
    assert found[0][1].dtype == torch.int64


def test_pixels_span_minus_one_to_one():
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1)
    data = MemoryDataset(images, torch.zeros(3).long(), [], "three")
    real = torch.cat([real for real, _ in batches(data, 1, batch_size=3)])
    assert real.dtype == torch.float32
    torch.testing.assert_close(real.flatten().sort().values, torch.tensor([-1.0, -0.6, 1.0]))


def test_seeds_differ_and_repeat():
    data = numbered(50)
    assert equal(batches(data, 9), batches(data, 9))
    assert not torch.equal(indices_of(batches(data, 9)), indices_of(batches(data, 9, seed=4)))


@pytest.mark.parametrize("start", [1, 6, 7, 40])
def test_start_is_the_same_as_skipping(start):
    data = numbered(50)
    assert equal(batches(data, start + 5, flip=True)[start:], batches(data, 5, start=start, flip=True))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_out_the_batch(world_size):
    data = numbered(50)
    ranks = [batches(data, 10, rank=r, world_size=world_size, flip=True) for r in range(world_size)]
    joined = [tuple(torch.cat(parts) for parts in zip(*batch, strict=True)) for batch in zip(*ranks, strict=True)]
    assert equal(joined, batches(data, 10, flip=True))
    assert len(ranks[0][0][1]) == 8 // world_size


def test_batch_size_must_be_shared_evenly():
    with pytest.raises(ConfigError, match="training.batch_size 8.*3 processes"):
        TrainingBatches(numbered(9), seed=0, batch_size=8, flip=False, world_size=3)


def test_fewer_images_than_a_batch():
    order = indices_of(batches(numbered(3), 3))  # 24 draws: eight epochs
    assert order.bincount().tolist() == [8, 8, 8]
    for epoch in order.view(8, 3):
        assert sorted(epoch.tolist()) == [0, 1, 2]


def test_half_of_the_images_are_mirrored_and_the_order_stays():
    data = numbered(50)
    plain, flipped = batches(data, 100), batches(data, 100, flip=True)
    mirrored = 0
    for (a, _), (b, _) in zip(plain, flipped, strict=True):
        same, turned = (a == b).flatten(1).all(1), (a.flip(3) == b).flatten(1).all(1)
        assert (same ^ turned).all()
        mirrored += int(turned.sum())
    assert 320 < mirrored < 480  # 800 draws: 400 expected, standard deviation 14


@pytest.fixture
def folder(tmp_path):
    for label in range(3):
        (tmp_path / f"class{label}").mkdir()
        for i in range(7):
            noise = np.random.default_rng(10 * label + i).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / f"class{label}" / f"{i}.png")
    return tmp_path


def test_workers_change_nothing(folder):
    data = open_folder(folder, (32, 32), 3, "raise")
    alone = batches(data, 6, flip=True, start=2)
    assert equal(alone, batches(data.load(), 6, flip=True, start=2))
    assert equal(alone, batches(data, 6, flip=True, start=2, workers=2))


def test_workers_report_what_they_leave_out(folder, tmp_path):
    (folder / "class1" / "3.png").write_bytes(b"broken")
    data = open_folder(folder, (32, 32), 3, "skip")
    handler = logging.FileHandler(tmp_path / "log.txt")  # a file, since workers could write to it as well
    logging.getLogger("sagan").addHandler(handler)
    found = batches(data, 4, workers=2)  # 32 draws: all 21 images
    logging.getLogger("sagan").removeHandler(handler)
    assert (tmp_path / "log.txt").read_text().count("3.png") == 1
    assert len(data.skipped) == 1 and "3.png" in data.skipped[0]
    assert equal(found, batches(open_folder(folder, (32, 32), 3, "skip"), 4))


def test_errors_in_workers_are_the_users(folder):
    (folder / "class1" / "3.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="3.png") as caught:
        batches(open_folder(folder, (32, 32), 3, "raise"), 4, workers=1)
    assert "Traceback" not in str(caught.value)


def test_full_shared_memory_is_one_error(folder, monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # workers are forked, so they have it, too
    with pytest.raises(UserError, match=r"no shared memory for them \(unable .*\(28\)\); .*--shm-size") as caught:
        batches(open_folder(folder, (32, 32), 3, "raise"), 4, workers=1)
    assert "Traceback" not in str(caught.value)


@pytest.mark.gpu
def test_images_move_to_the_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    data = numbered(50)
    loader = TrainingBatches(data, seed=3, batch_size=8, flip=True, device="cuda")
    assert loader.dataset.images.is_cuda
    assert loader.resident is loader.dataset.images and next(iter(loader))[0].dtype == torch.int64  # indices
    assert equal(batches(data, 10, flip=True, device="cuda"), batches(data, 10, flip=True))


def squares(dataset):
    return list(read_ahead(dataset, lambda i: (i**2,), range(4), workers=2))


def test_a_process_of_a_pool_reads_by_itself():
    """It must not start processes of its own."""
    data = MemoryDataset(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, dtype=torch.long), ["a"], "zeros")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(squares, (data,)) == [(0,), (1,), (4,), (9,)]


def test_workers_leave_the_random_numbers_of_the_caller_alone():
    data = MemoryDataset(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, dtype=torch.long), ["a"], "zeros")
    before = torch.get_rng_state()
    assert [number for (number,) in squares(data)] == [0, 1, 4, 9]
    assert torch.equal(torch.get_rng_state(), before)
