"""Images and folders that break readers: each is read, or refused in one line, without a warning or a wait."""

import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

from sagan.config import ConfigError, DataConfig, UserError
from sagan.data import open_data
from sagan.data.decoding import UnreadableImage, image_size, read_image
from sagan.data.packed import pack
from sagan.presets import load_config
from sagan.training.loop import train
from tests.helpers.bad_images import encoded, write_corpus
from tests.helpers.tiny_runs import TINY, train_run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "images" / "things")


def test_every_image_of_the_corpus_is_read_or_refused_in_one_line(corpus):
    readable, unreadable = corpus
    assert len(readable) + len(unreadable) >= 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in readable:
            assert read_image(file, (16, 24), 3).shape == (3, 16, 24), file
            assert read_image(file, None, 1).shape == (1, *image_size(file)), file
        for file in unreadable:
            with pytest.raises(UnreadableImage, match=re.escape(str(file))) as error:
                read_image(file, (16, 24), 3)
            assert "\n" not in str(error.value).replace(str(file), ""), file


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_leaves_out_exactly_the_unreadable_ones(corpus, workers):
    readable, unreadable = corpus
    folder = readable[0].parent.parent
    memory = 4.0 if workers else 0.0
    data = DataConfig(source="folder", path=str(folder), on_error="skip", memory_gb=memory, workers=workers)
    dataset = open_data(data)
    if not workers:  # read as needed: counted when they are read
        dataset = dataset.load()
    assert (len(dataset), len(dataset.skipped)) == (len(readable), len(unreadable))
    with pytest.raises(UserError, match=r"cannot read the image .*; data\.on_error=skip"):
        open_data(DataConfig(source="folder", path=str(folder)))


def test_the_command_says_one_line_and_hangs_nowhere(corpus, tmp_path):
    folder = str(corpus[0][0].parent.parent)
    command = [sys.executable, "-W", "always", "-m", "sagan", "pack", "quickstart", "--data.source", "folder"]
    command += ["--data.num_classes", "null", "--data.path", folder, "--out", str(tmp_path / "set")]
    skipped = subprocess.run([*command, "--data.on_error", "skip"], capture_output=True, timeout=100)
    refused = subprocess.run(command, capture_output=True, timeout=100)
    assert (skipped.returncode, refused.returncode) == (0, 1), skipped.stderr.decode()
    for stderr in (skipped.stderr, refused.stderr):
        assert b"Traceback" not in stderr and b"Warning" not in stderr and b"\x1b" not in stderr
    assert refused.stderr.count(b"\n") == 1 and refused.stderr.startswith(b"sagan pack: error: cannot read the image")


@pytest.fixture
def images(tmp_path):
    """Two class folders with two images each."""
    for name in ("cats", "dogs"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "images" / name / f"{i}.png").write_bytes(encoded("png"))
    return tmp_path / "images"


def opened(folder):
    return open_data(DataConfig(source="folder", path=str(folder)))


def test_links_that_lead_back_give_no_image_twice(images):
    (images / "cats" / "s1").symlink_to(".")
    (images / "cats" / "s2").symlink_to(".")
    (images / "cats" / "all").symlink_to("..")
    (images / "dogs" / "other").symlink_to("../cats")
    dataset = opened(images)
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    left_out = {re.search(r"(\w+) is left out", text)[1] for text in dataset.warnings}
    assert left_out == {"s1", "s2", "all", "other"}


def test_links_to_folders_elsewhere_are_followed_once(images, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.png").write_bytes(encoded("png"))
    (images / "cats" / "more").symlink_to(tmp_path / "more")
    (images / "dogs" / "more").symlink_to(tmp_path / "more")
    dataset = opened(images)
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1]
    assert len(dataset.warnings) == 1
    (images / "dogs-too").symlink_to("dogs")
    dataset = opened(images)
    assert dataset.class_names == ["cats", "dogs", "dogs-too"]
    assert any("are the same folder, so its images have two classes" in text for text in dataset.warnings)


def test_a_class_folder_whose_name_is_not_utf8_is_named(images):
    (images / "caf\udce9").mkdir()
    with pytest.raises(UserError, match=r"class folder 'caf\\udce9' is not UTF-8"):
        opened(images)


def test_a_folder_of_pipes_alone_is_refused(tmp_path, images):
    for file in images.rglob("*.png"):
        file.unlink()
    os.mkfifo(images / "cats" / "pipe.png")
    with pytest.raises(UserError, match=r"pipe.png: not a regular file"):
        opened(images)


LABELS = {
    "negative": (np.array([0, -1, 1, 1]), "4 labels from -1 to 1, expected 0 to 1"),
    "too large": (np.array([0, 1, 2, 2**40]), f"4 labels from 0 to {2**40}, expected 0 to 1"),
    "not a number": (np.array([0, 1, np.nan, 1]), "labels: found"),
    "text": (np.array(["a", "b", "c", "d"]), "damaged packed data set"),
    "objects": (np.array([{}, None, 1, []], dtype=object), "damaged packed data set"),
    "none": (np.zeros(0, np.int64), "labels: found"),
}
META = {
    "a list": ("[1, 2]", "meta.json: expected a mapping, found [1, 2]"),
    "a number": ("7", "meta.json: expected a mapping, found 7"),
    "nothing": ("", "damaged packed data set"),
    "deep": ("[" * 100_000, "damaged packed data set"),
    "no count": ('{"height": 32}', "meta.json: 'count' is missing"),
    "binary": (b"\xff\xfe\0", "damaged packed data set"),
}


@pytest.fixture
def packed(images, tmp_path):
    pack(opened(images), tmp_path / "set")
    return tmp_path / "set"


@pytest.mark.parametrize("name", LABELS)
def test_packed_labels_that_no_class_has(packed, name):
    labels, words = LABELS[name]
    np.save(packed / "labels.npy", labels, allow_pickle=True)
    with pytest.raises(UserError, match=re.escape(words)) as error:
        open_data(DataConfig(source="packed", path=str(packed)))
    assert "\n" not in str(error.value) and str(packed) in str(error.value)


@pytest.mark.parametrize("name", META)
def test_packed_data_with_a_damaged_description(packed, name):
    text, words = META[name]
    (packed / "meta.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=re.escape(words)) as error:
        open_data(DataConfig(source="packed", path=str(packed)))
    assert "\n" not in str(error.value) and str(packed) in str(error.value)


def test_a_run_names_an_image_whose_name_is_not_utf8(images, tmp_path):
    (images / "dogs" / "n\udcfe.png").write_bytes(b"bad")
    options = {**TINY, "data.on_error": "skip", "data.memory_gb": 0, "data.workers": 0}
    run_dir = train_run(tmp_path / "run", images, **options)
    assert "dogs/n\\udcfe.png: not an image of a known format" in (tmp_path / "run" / "log.txt").read_text(), run_dir


def test_one_image_is_too_few_for_a_score(tmp_path):
    (tmp_path / "images" / "cats").mkdir(parents=True)
    (tmp_path / "images" / "cats" / "0.png").write_bytes(encoded("png"))
    config = ["evaluation.every=1", "evaluation.extractor.name=efficientnet-lite0", f"run_dir={tmp_path / 'run'}"]
    options = [f"{key}={value}" for key, value in TINY.items()]
    config = load_config("own-images", [*options, *config, f"data.path={tmp_path / 'images'}"])
    with pytest.raises(ConfigError, match=r"num_real 0: a score needs at least 2 real images; the data have 1"):
        train(config)
    assert not (tmp_path / "run").exists()
