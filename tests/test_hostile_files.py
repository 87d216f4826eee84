"""Checkpoints and exports with one thing wrong: each is read as it should be, or is one error that names the file."""

import io
import os
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from sagan.commands.app import main
from sagan.config import ConfigError, UserError
from sagan.presets import load_config
from sagan.runs.checkpoints import find_checkpoint, load_checkpoint, newest_whole, save_checkpoint
from sagan.runs.directory import checkpoint_path
from sagan.runs.networks import load_discriminator, load_generator
from sagan.runs.saved_networks import load_run_config
from sagan.sharing.weights import export
from sagan.training.loop import check_start
from tests.helpers.mutations import mutated_blobs, mutated_contents, mutated_exports
from tests.helpers.tiny_runs import TINY, cheap_extractor, tokens, train_run

SLOW = [pytest.mark.slow, pytest.mark.timeout(7200)]
SHARE, SLOW_SHARE = 60, 3  # one in so many mutations is tried by `make test`, and by the slow tests


@pytest.fixture(scope="module")
def run(tmp_path_factory, image_folder):
    """Return a run of two steps with everything that a checkpoint may hold."""
    run = train_run(tmp_path_factory.mktemp("hostile") / "run", image_folder, **{"data.num_classes": 3})
    return Path(run), find_checkpoint(run), load_checkpoint(find_checkpoint(run))


def written(content):
    """Return the bytes of a checkpoint."""
    torch.save(content, file := io.BytesIO())
    return file.getvalue()


def resume(run_dir, image_folder):
    """Do what training does with a checkpoint before it opens its data."""
    source = {"data.source": "folder", "data.path": image_folder, "run_dir": run_dir, "data.num_classes": 3}
    config = load_config(None, [f"{key}={value}" for key, value in {**TINY, **source, "training.steps": 3}.items()])
    check_start(config, newest_whole(Path(run_dir))[0], data_given=False)


def survive(file, *uses):
    """Use a file in several ways. Return whether all worked. Anything but an error in one line fails the test."""
    worked = True
    for use in uses:
        with warnings.catch_warnings(action="error"):
            try:
                use()
            except (ConfigError, UserError) as error:
                worked, text = False, str(error)
                assert text.startswith((str(file), str(file.parent.parent))), text
                assert "\n" not in text or "cannot be resumed" in text, text
                assert len(text) < 3000 and "weights_only" not in text, text
    return worked


def contents(run, every):
    """Return the name and the bytes of every so-many-th mutated checkpoint."""
    _, file, content = run
    found = [*((name, lambda c=c: written(c)) for name, c in mutated_contents(content))]
    found += [(name, lambda b=b: b) for name, b in mutated_blobs(file.read_bytes())]
    return found[::every]


def load_all(run, image_folder, every, failed):
    """Load every so-many-th mutated checkpoint in every way. Return how many were tried and how many still load."""
    run_dir, file, _ = run
    before, worked, tried = file.read_bytes(), 0, contents(run, every)
    for name, blob in tried:
        file.write_bytes(blob())
        uses = (
            lambda: load_generator(file),
            lambda: load_discriminator(file),
            lambda: load_run_config(file),
            lambda: resume(run_dir, image_folder),
        )
        try:
            worked += survive(file, *uses)
        except BaseException as error:
            failed.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
        finally:
            file.write_bytes(before)
    return len(tried), worked


def load_all_exports(run, out, every, failed):
    """Load every so-many-th mutated export. Return how many were tried and how many still load."""
    file, _ = export(run[1], out)
    tried = list(mutated_exports(file))[::every]
    worked = 0
    for name, blob in tried:
        file.write_bytes(blob)
        try:
            worked += survive(file, lambda: load_generator(file), lambda: load_run_config(file))
        except BaseException as error:
            failed.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
    return len(tried), worked


@pytest.mark.parametrize("every", [SHARE, pytest.param(SLOW_SHARE, marks=SLOW)])
def test_mutated_checkpoints_load_or_are_one_error(run, image_folder, every):
    failed = []
    tried, worked = load_all(run, image_folder, every, failed)
    print(f"{tried} mutated checkpoints: {len(failed)} tracebacks, {worked} still load")
    assert failed == []
    assert tried >= 335 // every and worked < tried / 2


@pytest.mark.parametrize("every", [SHARE, pytest.param(SLOW_SHARE, marks=SLOW)])
def test_mutated_exports_load_or_are_one_error(run, tmp_path, every):
    failed = []
    tried, worked = load_all_exports(run, tmp_path, every, failed)
    print(f"{tried} mutated exports: {len(failed)} tracebacks, {worked} still load")
    assert failed == [] and worked < tried


VERBS = {
    "sample": ["--num", "1", "--out", "x.png"],
    "attention": ["--num", "1", "--out", "maps"],
    "evaluate": ["--num_samples=4", "--num_real=4", "--batch_size=4", "--standing_statistics=0"],
    "export": ["--out", "weights"],
}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_verb_survives_mutated_checkpoints(run, image_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sagan.runs.evaluation.build_extractor", cheap_extractor)
    run_dir, file, _ = run
    before, failed, codes = file.read_bytes(), [], {0: 0, 1: 0, 2: 0}
    tried = contents(run, 20)
    source = {"data.source": "folder", "data.path": image_folder, "data.num_classes": 3, "training.steps": 3}
    train = ["train", *tokens({**TINY, **source, "run_dir": tmp_path / "resumed"})]
    for name, blob in tried:
        alone = tmp_path / "alone.pt"
        alone.write_bytes(blob())
        for words in ([verb, str(alone), *options, "--device=cpu"] for verb, options in VERBS.items()):
            words = words[:-1] if words[0] == "export" else words
            check_verb(words, name, capsys, failed, codes)
        target = checkpoint_path(tmp_path / "resumed", 2)
        for old in target.parent.glob("*"):
            old.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(blob())
        check_verb(train, name, capsys, failed, codes)
    assert file.read_bytes() == before and run_dir.is_dir()
    print(f"{len(tried)} mutated checkpoints through 5 verbs: {len(failed)} failures, exit codes {codes}")
    assert failed == []


def check_verb(words, name, capsys, failed, codes):
    """Run a verb; note a failure unless it ends by itself with a known exit code and at most one error."""
    try:
        code = main(words)
        output = capsys.readouterr()
        codes[code] += 1
        if "Traceback" in output.err or "\x1b" in output.out + output.err or output.err.count("error:") > 1:
            failed.append(f"{words[0]}: {name}: {output.err[:300]}")
    except BaseException as error:
        capsys.readouterr()
        failed.append(f"{words[0]}: {name}: {type(error).__name__}: {str(error)[:300]}")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of the process from /proc")
def test_an_export_that_claims_huge_networks_is_refused_at_once_and_without_their_memory(run, tmp_path):
    file, _ = export(run[1], tmp_path)
    blobs = dict(mutated_exports(file))
    file.write_bytes(blobs["1,500 channels"])
    start, pages = time.process_time(), os.sysconf("SC_PAGE_SIZE")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * pages
    with pytest.raises(UserError, match=rf"{file}: the weights do not fit the configuration: .*shape .*expected"):
        load_generator(file)
    after = int(Path("/proc/self/statm").read_text().split()[1]) * pages
    assert time.process_time() - start < 5 and after - before < 200 * 2**20  # such a generator has a gigabyte and more


def test_a_whole_file_without_a_digest_resumes(run, image_folder):
    run_dir, file, content = run
    before = file.read_bytes()
    torch.save(content, file)  # as older versions wrote it, or after an edit
    resume(run_dir, image_folder)
    save_checkpoint(run_dir, content, keep=1)
    resume(run_dir, image_folder)
    file.write_bytes(before)
