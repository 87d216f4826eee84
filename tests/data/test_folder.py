"""Folders of images: labels, wrong layouts, unreadable files, and what is said about them."""

import os
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sagan.config import ConfigError, DataConfig, UserError
from sagan.data import MemoryDataset, open_data, resolve_num_classes, summarize
from sagan.data.folder import FolderDataset, images_under, open_folder
from sagan.evaluation.reference import reference
from tests.helpers.tiny_runs import cheap_extractor


def options(path, **more):
    return DataConfig(source="folder", path=str(path), **more)


def pixels_of(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def test_class_folders_in_the_order_of_their_names(make_folder):
    root = make_folder({"b": 2, "a": 3, "c/deeper/still": 1, ".hidden": 4})
    (root / "a" / "notes.txt").write_text("not an image")
    data = open_data(options(root))
    assert data.class_names == ["a", "b", "c"]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 2] and data.labels.dtype == torch.int64
    assert (data.size, data.channels, len(data)) == ((32, 32), 3, 6)
    assert torch.equal(data.batch(torch.tensor([4])), pixels_of(root / "b" / "001.png")[None])
    assert summarize(data)[1] == []


def test_flat_folder_is_unconditional(make_folder):
    data = open_data(options(make_folder({".": 4})))
    assert data.class_names == [] and data.labels.tolist() == [0] * 4
    assert resolve_num_classes(options("x"), data) == 0
    lines, warnings = summarize(data)
    assert "no classes: unconditional" in lines and warnings == []


def test_memory_and_streaming_hold_the_same(make_folder):
    root = make_folder({"a": 5, "b": 4}, size=(40, 50))
    loaded, streaming = open_data(options(root)), open_data(options(root, memory_gb=0))
    assert isinstance(loaded, MemoryDataset) and isinstance(streaming, FolderDataset)
    order = torch.tensor([8, 0, 3, 3])
    assert torch.equal(loaded.batch(order), streaming.batch(order))
    assert loaded.fingerprint == streaming.fingerprint


def test_worker_processes_read_the_same(make_folder, monkeypatch):
    data = open_folder(make_folder({"a": 30, "b": 10}), (32, 32), 3, "raise")
    expected = data.batch(torch.arange(40))
    monkeypatch.setattr("sagan.data.dataset.CHUNK_BYTES", 2 * 3 * 32 * 32)  # 20 chunks of two images
    monkeypatch.setattr(FolderDataset, "workers", 2)
    assert torch.equal(data.load().images, expected)


@pytest.mark.parametrize("change", ["pixel", "label", "name", "order"])
def test_fingerprint_notices(change):
    images, labels, names = torch.zeros(3, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 0, 1]), ["a", "b"]
    images[1] = 7
    before = MemoryDataset(images.clone(), labels.clone(), names, "before").fingerprint
    assert before == MemoryDataset(images.clone(), labels.clone(), names, "the same elsewhere").fingerprint
    if change == "pixel":
        images[2, 0, 5, 5] = 1
    if change == "label":
        labels[1] = 1
    if change == "name":
        names = ["a", "c"]
    if change == "order":
        images = images[[1, 0, 2]]
    assert MemoryDataset(images, labels, names, "after").fingerprint != before


def test_loose_images_beside_folders_are_refused(make_folder):
    root = make_folder({"a": 2, ".": 1})
    with pytest.raises(UserError, match=r"1 loose image \(such as 000.png\) beside 1 folder.*a/"):
        open_data(options(root))


def test_missing_empty_and_unnamed_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere: does not exist"):
        open_data(options(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no images"):
        open_data(options(tmp_path / "empty"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: is a file"):
        open_data(options(tmp_path / "file"))
    with pytest.raises(ConfigError, match="data.path"):
        open_data(DataConfig(source="folder"))
    with pytest.raises(ConfigError, match="split 'test'"):
        open_data(options(tmp_path), split="test")


def break_file(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("memory_gb", [0, 1])
def test_a_truncated_image_stops_the_run_and_is_named(make_folder, memory_gb):
    root = make_folder({"a": 2, "b": 3})
    break_file(root / "b" / "001.png")
    with pytest.raises(UserError, match="b/001.png.*data.on_error=skip"):
        open_data(options(root, memory_gb=memory_gb)).batch(torch.arange(5))


def test_skipped_in_memory_is_left_out_and_counted(make_folder):
    root = make_folder({"a": 2, "b": 3})
    break_file(root / "b" / "001.png")
    data = open_data(options(root, on_error="skip"))
    assert len(data) == 4 and data.labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(data.batch(torch.tensor([3]))[0], pixels_of(root / "b" / "002.png"))
    assert len(data.skipped) == 1
    assert any("1 unreadable image left out" in line and "001.png" in line for line in summarize(data)[0])


def test_skipped_while_streaming_shows_the_next_of_its_class(make_folder, caplog):
    root = make_folder({"a": 2, "b": 3})
    break_file(root / "b" / "002.png")  # the last of its class: goes on with the first of b, not of a
    data = open_data(options(root, on_error="skip", memory_gb=0))
    for _ in range(2):
        assert torch.equal(data.batch(torch.tensor([4]))[0], pixels_of(root / "b" / "000.png"))
    assert len(data) == 5 and len(data.skipped) == 1
    assert [r.getMessage() for r in caplog.records if "002.png" in r.getMessage()] == [f"left out: {data.skipped[0]}"]
    assert data.fingerprint == open_data(options(root, on_error="skip")).fingerprint


@pytest.mark.parametrize("num_real", [0, 4])
def test_scores_are_of_the_readable_images_whether_in_memory_or_not(make_folder, monkeypatch, tmp_path, num_real):
    monkeypatch.setenv("SAGAN_CACHE", str(tmp_path / "cache"))
    root = make_folder({"a": 2, "b": 3, "c": 2})
    for name in ("b/001.png", "c/000.png", "c/001.png"):
        break_file(root / name)
    found = []
    for memory_gb in (0, 1):
        data = open_data(options(root, on_error="skip", memory_gb=memory_gb))
        found.append(reference(data, "train", num_real, cheap_extractor(), 64))
    assert len(found[0].values) == 4 and torch.equal(found[0].values, found[1].values)
    assert found[0].labels.tolist() == found[1].labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(ConfigError, match="num_real 5: the data have 4 images"):
        reference(data, "train", 5, cheap_extractor(), 64)


def test_images_under_a_folder_whatever_path_leads_there(make_folder, monkeypatch):
    root = make_folder({".": 2, "inside/deeper": 3, "inside/.ipynb_checkpoints": 1})
    monkeypatch.chdir(root / "inside")
    names = ["000.png", "001.png", "inside/deeper/000.png", "inside/deeper/001.png", "inside/deeper/002.png"]
    for path in (root, Path(".."), Path("../inside/.."), Path("deeper/../..")):
        assert [p.relative_to(path).as_posix() for p in images_under(path)] == names


def test_the_next_image_stands_in_not_the_first(make_folder):
    root = make_folder({"a": 2, "b": 3})
    break_file(root / "b" / "001.png")
    data = open_data(options(root, on_error="skip", memory_gb=0))
    assert torch.equal(data.batch(torch.tensor([3]))[0], pixels_of(root / "b" / "002.png"))


def test_nothing_readable_is_an_error(make_folder):
    root = make_folder({"a": 2, "b": 1})
    break_file(root / "b" / "000.png")
    with pytest.raises(UserError, match="no image of the class of .*b/000.png"):
        open_data(options(root, on_error="skip", memory_gb=0)).batch(torch.tensor([2]))
    for file in root.glob("a/*"):
        break_file(file)
    with pytest.raises(UserError, match="no image of 3 could be read"):
        open_data(options(root, on_error="skip"))


def test_class_counts_must_agree(make_folder):
    root = make_folder({"ants": 1, "bees": 1})
    assert resolve_num_classes(options(root), open_data(options(root))) == 2
    with pytest.raises(ConfigError, match=r"data.num_classes 3: .*2 classes \(ants, bees\)"):
        open_data(options(root, num_classes=3))
    with pytest.raises(ConfigError, match="data.num_classes 2: .*no classes"):
        open_data(options(root / "ants", num_classes=2))


def test_zero_classes_ignore_the_labels(make_folder):
    root = make_folder({"a": 2, "b": 3})
    data = open_data(options(root, num_classes=0))
    assert data.class_names == [] and data.labels.unique().tolist() == [0]
    assert resolve_num_classes(options(root, num_classes=0), data) == 0
    assert data.fingerprint != open_data(options(root)).fingerprint


def test_path_one_level_too_high_is_said(make_folder):
    root = make_folder({"train/a": 2, "train/b": 2})
    lines, warnings = summarize(open_data(options(root)))
    assert any("one level too high" in w and str(root / "train") in w for w in warnings)
    assert any("there is one class with images, 'train'" in w for w in warnings)
    two = summarize(open_data(options(make_folder({"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1}, "split"))))[1]
    assert any("2 of 2 class folders" in w for w in two)
    assert summarize(open_data(options(root / "train")))[1] == []
    assert summarize(open_data(options(make_folder({"a/images": 2, "b/images": 2}, "wrapped"))))[1] == []


def test_empty_and_rare_classes_are_said(make_folder):
    root = make_folder({"common": 40, "rare": 2, "usual": 3})
    (root / "void").mkdir()
    data = open_data(options(root))
    assert data.class_names == ["common", "rare", "usual", "void"]
    lines, warnings = summarize(data)
    assert any("common 40, rare 2, usual 3, void 0" in line for line in lines)
    assert len(warnings) == 2
    assert "no images in 1 of 4 classes: void" in warnings[0]
    assert "rare (2)" in warnings[1] and "usual" not in warnings[1] and "20 or more times rarer" in warnings[1]


@pytest.fixture
def tiny_imagenet(tmp_path):
    """Return a stretch of the archive that holds greyscale files too."""
    archive = Path(os.environ.get("SAGAN_TEST_DATA", "/nonexistent")) / "tiny-imagenet-50.tar.xz"
    if not archive.is_file():
        pytest.skip("SAGAN_TEST_DATA does not name a folder with tiny-imagenet-50.tar.xz")
    with tarfile.open(archive) as tar:
        members = (m for m in tar if m.isfile())
        for member in islice(members, 700, 920):
            tar.extract(member, tmp_path, filter="data")
    return tmp_path / "tiny-imagenet-50" / "train"


def test_tiny_imagenet_with_its_greyscale_files(tiny_imagenet):
    grey = [p for p in sorted(tiny_imagenet.rglob("*.JPEG")) if Image.open(p).mode == "L"]
    assert grey
    data = open_folder(tiny_imagenet, (64, 64), 3, "raise")
    images = data.batch(torch.tensor([data.paths.index(str(p)) for p in grey]))
    assert torch.equal(images[:, 0], images[:, 2])
    loaded = open_data(options(tiny_imagenet))
    assert loaded.images.shape == (220, 3, 32, 32)
    assert not torch.equal(loaded.images[:, 0], loaded.images[:, 2])
