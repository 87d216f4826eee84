"""Checkpoint files: written completely or not at all, found by name, pruned."""

import errno
import io
import json
import os
import pickle
import re
import zipfile
from random import Random

import numpy as np
import pytest
import torch

from sagan.config import DamagedError, UserError
from sagan.runs.best import best_checkpoint
from sagan.runs.checkpoints import find_checkpoint, load_checkpoint, save_checkpoint
from sagan.runs.contents import digest
from sagan.runs.directory import checkpoint_path, checkpoints, newest_step, remove_leftovers
from sagan.runtime import files as module
from sagan.runtime.files import write_atomically


def content(step):
    return {"step": step, "config": {"a": [1, None, "x"]}, "generator": {"w": torch.full((300, 300), float(step))}}


def names(run_dir):
    return sorted(p.name for p in (run_dir / "checkpoints").iterdir())


def record_evaluation(run_dir, step, fid):
    with open(run_dir / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step, "fid": fid, "evaluation": {"protocol": {"step": step}}}) + "\n")


def test_saved_and_loaded(tmp_path):
    path = save_checkpoint(tmp_path, content(8), keep=3)
    assert path == tmp_path / "checkpoints" / "step-00000008.pt" and newest_step(tmp_path) == 8
    loaded = load_checkpoint(path)
    assert loaded["config"] == {"a": [1, None, "x"]} and loaded["generator"]["w"][0, 0] == 8


def test_the_newest_and_the_best_are_kept(tmp_path):
    for step in (1, 2, 3, 4, 5):
        save_checkpoint(tmp_path, content(step), keep=2)
        if step == 2:
            record_evaluation(tmp_path, 2, 1.0)
    assert names(tmp_path) == [f"step-0000000{s}.pt" for s in (2, 4, 5)]
    assert best_checkpoint(tmp_path) == checkpoint_path(tmp_path, 2)
    record_evaluation(tmp_path, 5, 0.5)
    save_checkpoint(tmp_path, content(6), keep=1)
    assert names(tmp_path) == ["step-00000005.pt", "step-00000006.pt"]


def test_which_checkpoint_a_run_argument_means(tmp_path):
    for step in (2, 10):
        save_checkpoint(tmp_path, content(step), keep=3)
    file = checkpoint_path(tmp_path, 2)
    assert find_checkpoint(tmp_path) == checkpoint_path(tmp_path, 10)
    assert find_checkpoint(file) == find_checkpoint(tmp_path, file.name) == find_checkpoint(tmp_path, str(file)) == file
    record_evaluation(tmp_path, 2, 1.0)
    assert find_checkpoint(tmp_path, "best") == file
    with pytest.raises(UserError, match="--checkpoint step-00000003.pt: no such file"):
        find_checkpoint(tmp_path, "step-00000003.pt")
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'other'}: neither a checkpoint file nor a run")):
        find_checkpoint(tmp_path / "other")
    with pytest.raises(UserError, match="other: no such run directory"):
        find_checkpoint(tmp_path / "other", "best")


def test_files_with_other_names_are_not_checkpoints(tmp_path):
    save_checkpoint(tmp_path, content(3), keep=1)
    for name in ("step-3.pt", "step-00000009.pt.part", ".step-00000009.pt.12.tmp"):
        (tmp_path / "checkpoints" / name).touch()
    assert checkpoints(tmp_path) == [checkpoint_path(tmp_path, 3)]
    assert newest_step(tmp_path / "other") == 0


class FullDisk(io.FileIO):
    """A file on a disk with 2,000 bytes left."""

    def write(self, data):
        if self.tell() + len(data) > 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_is_reported_and_harms_nothing(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, content(1), keep=1)
    monkeypatch.setattr(module, "open", FullDisk, raising=False)
    with pytest.raises(UserError, match=r"step-00000002.pt: cannot be written: .*No space left.*Earlier .* untouched"):
        save_checkpoint(tmp_path, content(2), keep=1)
    assert names(tmp_path) == ["step-00000001.pt"]  # and no temporary file
    assert load_checkpoint(find_checkpoint(tmp_path))["step"] == 1


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_write_that_fails_at_the_end_keeps_the_old_file(tmp_path, monkeypatch, function):
    file = tmp_path / "file"
    write_atomically(file, lambda f: f.write(b"old"))

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, function, fail)
    with pytest.raises(UserError, match=f"{file}: cannot be written: .*No space left"):
        write_atomically(file, lambda f: f.write(b"new"))
    assert file.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    file = tmp_path / "file"
    write_atomically(file, lambda f: f.write(b"old"))

    def interrupted(f):
        f.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, interrupted)
    assert file.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_content_reaches_the_disk_before_the_file_gets_its_name(tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(module.os, "fsync", lambda handle: (events.append("fsync"), fsync(handle)))
    monkeypatch.setattr(module.os, "replace", lambda a, b: (events.append("rename"), replace(a, b)))
    write_atomically(tmp_path / "file", lambda f: f.write(b"new"))
    assert events == ["fsync", "rename", "fsync"]  # the file, then its folder


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(UserError, match="step-00000001.pt: cannot be written"):
        save_checkpoint(tmp_path, content(1), keep=1)


def test_only_leftovers_of_a_killed_process_are_removed(tmp_path):
    for folder in ("", "checkpoints", "samples"):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name in (".step-00000002.pt.77.tmp", ".config.yaml.7.tmp", ".mine.tmp", "kept"):
            (tmp_path / folder / name).touch()
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "other")
    for folder in ("", "checkpoints", "samples"):
        left = {p.name for p in (tmp_path / folder).iterdir() if p.is_file()}
        assert left == {".mine.tmp", "kept"}


def test_damaged_and_other_files_are_named(tmp_path):
    path = save_checkpoint(tmp_path, content(1), keep=1)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=f"{path}: cannot be read as a checkpoint"):
        load_checkpoint(path)
    torch.save({"model": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=f"{path}: not a checkpoint of this program"):
        load_checkpoint(path)


def test_loading_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({**content(1), "extra": Evil()}, tmp_path / "x.pt")
    with pytest.raises(
        UserError, match=r"x.pt: cannot be read as a checkpoint: .*it holds \w+.mkdir, but only tensors"
    ):
        load_checkpoint(tmp_path / "x.pt")
    assert not (tmp_path / "evil").exists()


def flipped(blob, offset, seed):
    """Return bytes with three bits flipped, all after an offset."""
    random, changed = Random(seed), bytearray(blob)
    for _ in range(3):
        changed[random.randrange(offset, len(blob))] ^= 1 << random.randrange(8)
    return bytes(changed)


def test_three_flipped_bits_in_the_numbers_are_noticed(tmp_path):
    whole = save_checkpoint(tmp_path, content(1), keep=1).read_bytes()
    numbers = np.full((300, 300), 1.0, np.float32).tobytes()
    start, file = whole.index(numbers), tmp_path / "flipped.pt"
    for seed in range(50):
        file.write_bytes(whole[:start] + flipped(numbers, 0, seed) + whole[start + len(numbers) :])
        with pytest.raises(DamagedError, match=rf"^{file}: damaged: its content has the digest crc32:\w+, but"):
            load_checkpoint(file)


def test_a_file_without_a_digest_is_read_as_it_is_and_a_changed_one_with_it_is_not(tmp_path):
    path = save_checkpoint(tmp_path, content(1), keep=1)
    saved = torch.load(path, weights_only=True)
    assert saved["digest"] == digest(content(1)) and "digest" not in load_checkpoint(path)
    changed = {**saved, "config": {"a": [1, None, "y"]}}
    torch.save(changed, path)
    with pytest.raises(DamagedError, match="its content has the digest"):
        load_checkpoint(path)
    del changed["digest"]
    torch.save(changed, path)
    assert load_checkpoint(path)["config"] == {"a": [1, None, "y"]}


@pytest.mark.parametrize(
    "change",
    [
        {"step": 2},
        {"step": True},
        {"config": {"a": [1, None]}},
        {"config": {"a": [1, [None], "x"]}},
        {"config": {"b": [1, None, "x"]}},
        {"config": {}},
        {"generator": {"w": torch.full((300, 300), -1.0)}},
        {"generator": {"w": torch.full((300, 300), 1.0, dtype=torch.float64)}},
        {"generator": {"w": torch.full((90_000,), 1.0)}},
        {"generator": {"v": torch.full((300, 300), 1.0)}},
        {"extra": None},
    ],
    ids=str,
)
def test_every_change_of_a_content_changes_its_digest(change):
    assert digest({**content(1), **change}) != digest(content(1))


def test_a_digest_is_a_function_of_the_values_alone(tmp_path):
    kernel = torch.randn(4, 3, 5, 2).to(memory_format=torch.channels_last)
    one = {"a": kernel, "b": [1.5, float("nan")], "c": torch.tensor(2.0, dtype=torch.bfloat16)}
    torch.save(one, tmp_path / "x.pt")
    other = dict(reversed(torch.load(tmp_path / "x.pt", weights_only=True).items()))
    assert digest(one) == digest(other)


def test_a_file_whose_parts_are_larger_than_it_is_refused_before_it_is_read(tmp_path):
    path = save_checkpoint(tmp_path, content(1), keep=1)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as small:
        for name in archive.namelist():
            small.writestr(name, archive.read(name))
    with pytest.raises(DamagedError, match=r"x.pt: cannot be read as a checkpoint: .*claims \d+ bytes but has \d+"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("blob", [b"", b"text", pickle.dumps({1, 2}), pickle.dumps(Random(0)), b"PK\x03\x04"], ids=str)
def test_torchs_advice_is_not_repeated(tmp_path, blob):
    (tmp_path / "x.pt").write_bytes(blob)
    with pytest.raises(DamagedError) as error:
        load_checkpoint(tmp_path / "x.pt")
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400
