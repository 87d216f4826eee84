"""Packed data sets: the same content, whole or not there at all, and no need for memory."""

import errno
import json
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from sagan.config import DataConfig, UserError
from sagan.data import open_data, pack
from sagan.data.decoding import fit_arrays
from sagan.data.folder import open_folder
from sagan.data.packed import PackedDataset
from tests.helpers.pages import ROOT
from tests.helpers.training_images import training_images


def packed(path, **more):
    return DataConfig(source="packed", path=str(path), **more)


@pytest.fixture
def folder(make_folder):
    return open_folder(make_folder({"a": 5, "b": 4}), (32, 32), 3, "raise")


@pytest.mark.parametrize("memory_gb", [0, 1])
def test_round_trip(folder, tmp_path, memory_gb):
    pack(folder, tmp_path / "out" / "set")
    data = open_data(packed(tmp_path / "out" / "set", memory_gb=memory_gb))
    assert isinstance(data, PackedDataset) == (memory_gb == 0)
    order = torch.tensor([8, 0, 3, 3])
    assert torch.equal(data.batch(order), folder.batch(order))
    assert torch.equal(data.labels, folder.labels) and data.class_names == folder.class_names
    assert data.fingerprint == folder.fingerprint
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["set"]


def test_fingerprint_without_labels(folder, tmp_path):
    pack(folder, tmp_path / "set")
    data = open_data(packed(tmp_path / "set", memory_gb=0, num_classes=0))
    folder.forget_labels()
    assert data.fingerprint == folder.fingerprint


def test_images_are_mapped_and_not_pickled(folder, tmp_path):
    pack(folder, tmp_path / "set")
    data = open_data(packed(tmp_path / "set", memory_gb=0))
    assert isinstance(data.arrays, np.memmap)
    text = pickle.dumps(data)
    assert len(text) < 9 * 32 * 32 * 3
    assert torch.equal(pickle.loads(text).batch(torch.arange(9)), folder.batch(torch.arange(9)))


def test_workers_read_packed_data(folder, tmp_path):
    pack(folder, tmp_path / "set")
    data = open_data(packed(tmp_path / "set", memory_gb=0))
    options = {"seed": 0, "batch_size": 4, "flip": True}
    pairs = zip(training_images(data, 5, **options, workers=1), training_images(folder, 5, **options), strict=True)
    for (a, y), (b, z) in pairs:
        assert torch.equal(a, b) and torch.equal(y, z)


def test_other_sizes_than_the_packed_one(folder, tmp_path):
    pack(folder, tmp_path / "set")
    data = open_data(packed(tmp_path / "set", memory_gb=0, resolution=[64, 32], channels=1))
    assert data.batch(torch.arange(9)).shape == (9, 1, 64, 32)
    expected = fit_arrays(folder.batch(torch.arange(9)).permute(0, 2, 3, 1).numpy(), (64, 32), 1)
    np.testing.assert_array_equal(data.batch(torch.arange(9)).numpy(), expected)
    assert data.fingerprint == open_data(packed(tmp_path / "set", resolution=[64, 32], channels=1)).fingerprint


def test_unreadable_images_are_left_out(make_folder, tmp_path):
    root = make_folder({"a": 12, "b": 3})
    (root / "a" / "004.png").write_bytes(b"broken")
    pack(open_folder(root, (32, 32), 3, "skip"), tmp_path / "set")
    data = open_data(packed(tmp_path / "set", memory_gb=0))
    loaded = open_folder(root, (32, 32), 3, "skip").load()
    assert len(data) == 14 and data.arrays.shape == (14, 32, 32, 3)
    assert torch.equal(data.batch(torch.arange(14)), loaded.images) and torch.equal(data.labels, loaded.labels)
    assert data.fingerprint == loaded.fingerprint


def test_packing_again_replaces(folder, make_folder, tmp_path):
    pack(folder, tmp_path / "set")
    other = open_folder(make_folder({"x": 2}, "other"), (32, 32), 3, "raise")
    pack(other, tmp_path / "set")
    assert open_data(packed(tmp_path / "set")).fingerprint == other.fingerprint
    pack(open_data(packed(tmp_path / "set", memory_gb=0)), tmp_path / "set")  # even onto itself
    assert open_data(packed(tmp_path / "set")).fingerprint == other.fingerprint


def test_other_folders_are_not_overwritten(folder, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="set: exists and is not a packed data set"):
        pack(folder, tmp_path / "set")
    assert [p.name for p in (tmp_path / "set").iterdir()] == ["thesis.tex"]


def test_an_error_leaves_nothing_behind(folder, make_folder, tmp_path):
    (tmp_path / "images" / "b" / "003.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="003.png"):
        pack(folder, tmp_path / "set")
    assert [p.name for p in tmp_path.iterdir()] == ["images"]


def test_a_full_disk_leaves_the_old_set(folder, tmp_path, monkeypatch):
    pack(folder, tmp_path / "set")
    before = open_data(packed(tmp_path / "set")).fingerprint

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("numpy.save", full)  # labels come after the images
        with pytest.raises(UserError, match="set: cannot write.*No space left"):
            pack(folder, tmp_path / "set")
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
        with pytest.raises(UserError, match="to write, but the disk has"):
            pack(folder, tmp_path / "set")
    assert open_data(packed(tmp_path / "set")).fingerprint == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "set"]


def damage_images(path):
    whole = (path / "images.npy").read_bytes()
    (path / "images.npy").write_bytes(whole[:-1])


def swap_images(path):
    np.save(path / "images.npy", np.zeros((8, 32, 32, 3), np.uint8))


def five_channels(path):
    np.save(path / "images.npy", np.zeros((9, 32, 32, 5), np.uint8))
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**meta, "channels": 5}))


def shorten_labels(path):
    np.save(path / "labels.npy", np.zeros(8, np.int64))


def raise_labels(path):
    np.save(path / "labels.npy", np.full(9, 2))


def claim(name, shape):
    """Return what makes a file of a packed set claim to hold an array of this shape."""

    def write(path):
        with open(path / name, "wb") as file:
            header = {"descr": "|u1" if name == "images.npy" else "<i8", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(1000))

    return write


def garble_header(path):
    whole = (path / "images.npy").read_bytes()
    (path / "images.npy").write_bytes(whole[:10] + whole[10:].replace(b"}", b" ", 1).replace(b")", b"(", 1))


def archive_images(path):
    with open(path / "images.npy", "wb") as file:
        np.savez(file, np.zeros(3))


def count_beyond_reason(path):
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**meta, "count": 10**400}))


def cut_meta(path):
    (path / "meta.json").write_text('{"count": ')


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_images, "damaged"),
        (five_channels, r"images: found \(9, 32, 32, 5\), expected images of 1 or 3 channels"),
        (claim("images.npy", (9, 0, 32, 3)), r"images: found \(9, 0, 32, 3\), expected images of 1 or 3 channels"),
        (swap_images, r"images: found .*\(8, 32, 32, 3\).*expected .*\(9, 32, 32, 3\)"),
        (shorten_labels, "labels: found"),
        (raise_labels, "labels from 2 to 2, expected 0 to 1"),
        (cut_meta, "damaged"),
        (lambda path: (path / "labels.npy").unlink(), "labels.npy missing"),
        (lambda path: (path / "images.npy").write_bytes(b""), r"damaged packed data set \(images.npy: No data left"),
        (archive_images, r"damaged packed data set \(images.npy: expected an array, found an archive"),
        (garble_header, r"damaged packed data set \(images.npy: "),
        (claim("images.npy", (-9, 32, 32, 3)), r"damaged packed data set \(images.npy: "),
        (claim("labels.npy", (10**12,)), r"damaged packed data set \(labels.npy: mmap length is greater"),
        (claim("labels.npy", (2**62, 2**62)), r"damaged packed data set \(labels.npy: "),
        (count_beyond_reason, r"expected \(\(10{97}\.\.\. \(\d+ characters\); pack it again"),
    ],
)
def test_damaged_sets_are_refused(folder, tmp_path, damage, words):
    pack(folder, tmp_path / "set")
    damage(tmp_path / "set")
    with pytest.raises(UserError, match=words) as error, warnings.catch_warnings(action="error"):
        open_data(packed(tmp_path / "set"))
    assert str(tmp_path / "set") in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("text", ["7", "[" * 100_000])
def test_a_set_whose_description_is_damaged_is_not_overwritten(folder, tmp_path, text):
    pack(folder, tmp_path / "set")
    (tmp_path / "set" / "meta.json").write_text(text)
    with pytest.raises(UserError, match="set: exists and is not a packed data set"):
        pack(folder, tmp_path / "set")


def test_each_image_of_a_batch_is_requested_where_it_lies(folder, tmp_path, monkeypatch):
    pack(folder, tmp_path / "set")
    data = open_data(packed(tmp_path / "set", memory_gb=0))
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, start, length, advice: asked.append((start, length, advice)))
    images = data.batch(torch.tensor([7, 0]))
    content = (tmp_path / "set" / "images.npy").read_bytes()
    for image, (start, length, advice) in zip(images, asked, strict=True):
        assert content[start : start + length] == image.permute(1, 2, 0).contiguous().numpy().tobytes()
        assert advice == os.POSIX_FADV_WILLNEED


STREAM = """
import resource, sys
import torch
from itertools import islice
from sagan.config import DataConfig
from sagan.data import TrainingBatches, find_data

def memory(kind):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(kind)) // 1024

data = find_data(DataConfig("packed", sys.argv[1], 64))
batches = iter(TrainingBatches(data, seed=0, batch_size=256, flip=False))
for _ in islice(batches, 5):  # as many batches are in memory as ever will be
    pass
resource.setrlimit(resource.RLIMIT_DATA, ((memory("VmData") + 128) * 2**20,) * 2)
early = memory("RssAnon")
for _ in islice(batches, 120):
    pass
print(early, memory("RssAnon"))
try:
    data.load()
except (MemoryError, RuntimeError) as error:
    print(type(error).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_set_larger_than_a_memory_limit_is_streamed(folder, tmp_path):
    """768 MiB, sparse on the disk, where 128 MiB may be allocated. That the limit holds, loading the set shows."""
    pack(folder, tmp_path / "set")
    meta, shape = json.loads((tmp_path / "set" / "meta.json").read_text()), (2**16, 64, 64, 3)
    meta |= dict(zip(("count", "height", "width", "channels"), shape, strict=True))
    (tmp_path / "set" / "meta.json").write_text(json.dumps(meta))
    np.lib.format.open_memmap(tmp_path / "set" / "images.npy", "w+", np.uint8, shape)
    np.save(tmp_path / "set" / "labels.npy", np.arange(2**16) % 2)
    program = [sys.executable, "-c", STREAM, str(tmp_path / "set")]
    done = subprocess.run(
        program, capture_output=True, text=True, timeout=250, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    memory, error = done.stdout.splitlines()
    early, late = map(int, memory.split())
    assert late - early < 16 and error in ("MemoryError", "RuntimeError")


@pytest.mark.parametrize("step", [0, 5])
def test_the_position_is_exact_if_the_number_of_ranks_changes(folder, tmp_path, step):
    """The images of a step are those of one process, in shares; a worker changes nothing."""
    pack(folder, tmp_path / "set")
    data = open_data(packed(tmp_path / "set", memory_gb=0))

    def batch(world, start, workers=0):
        options = {"seed": 3, "batch_size": 4, "flip": True, "world_size": world, "start": start, "workers": workers}
        shares = [training_images(data, 1, rank=rank, **options)[0] for rank in range(world)]
        return torch.cat([real for real, _ in shares]), torch.cat([y for _, y in shares])

    uninterrupted = training_images(data, step + 1, seed=3, batch_size=4, flip=True)[step]
    for world, workers in ((1, 0), (2, 0), (4, 0), (2, 1)):
        assert all(torch.equal(a, b) for a, b in zip(batch(world, step, workers), uninterrupted, strict=True))
