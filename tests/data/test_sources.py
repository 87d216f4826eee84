"""Archives, the package datasets, and classes of one's own give what the folder gives."""

import json
import pickle
import shutil
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch

from sagan import evaluate
from sagan.commands.app import main
from sagan.config import ConfigError, DataConfig, UntrustedCode, UserError
from sagan.data import find_data, open_data
from sagan.data.folder import open_folder
from sagan.runs.networks import require_trusted_source
from tests.helpers import own_data
from tests.helpers.tiny_runs import cheap_extractor, tokens, train_run
from tests.helpers.training_images import training_images


def write_zip(path, root, under="", **more):
    """Write an archive of the files below `root`, inside the folder `under`, and of more entries."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, f"{under}{file.relative_to(root)}")
        for name, content in more.items():
            archive.writestr(name, content)
    return path


def opened(source, path, **more):
    return find_data(DataConfig(source, str(path), 32, **more))


def assert_same(data, folder):
    everything = torch.arange(len(folder))
    assert torch.equal(data.batch(everything), folder.batch(everything))
    assert torch.equal(data.labels, folder.labels) and data.class_names == folder.class_names
    assert data.fingerprint == folder.fingerprint


@pytest.mark.parametrize("under", ["", "images/", "outer/inner/"])
def test_an_archive_of_class_folders_is_the_folder(image_folder, tmp_path, under):
    path = write_zip(tmp_path / "x.zip", image_folder, under, **{"__MACOSX/a/._00.png": b"no image", "notes.txt": b""})
    assert_same(opened("zip", path), open_folder(image_folder, (32, 32), 3, "raise"))
    data = open_data(DataConfig("zip", str(path), 32))
    assert data.residence == "in memory" and data.source == f"archive {path}"


def test_an_archive_has_the_order_and_the_classes_of_its_folder(make_folder, tmp_path):
    """Hidden folders are no classes, and "a-b" follows "a" although "a-b/0" comes before "a/0"."""
    root = make_folder({"a": 2, "a-b": 2, ".ipynb_checkpoints": 1, "b/.hidden": 1, "b": 1})
    path = write_zip(tmp_path / "x.zip", root)
    folder = open_folder(root, (32, 32), 3, "raise")
    assert folder.class_names == ["a", "a-b", "b"] and folder.labels.tolist() == [0, 0, 1, 1, 2]
    assert_same(opened("zip", path), folder)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.write(root / "a" / "000.png", "a/000.png")
    assert_same(opened("zip", path), folder)


def test_workers_read_an_archive_each_for_itself(image_folder, tmp_path):
    data = opened("zip", write_zip(tmp_path / "x.zip", image_folder))
    data.batch(torch.arange(2))  # the handle of this process
    assert torch.equal(pickle.loads(pickle.dumps(data)).batch(torch.arange(24)), data.batch(torch.arange(24)))
    folder = open_folder(image_folder, (32, 32), 3, "raise")
    options = {"seed": 0, "batch_size": 8, "flip": True}
    pairs = zip(training_images(data, 5, **options, workers=2), training_images(folder, 5, **options), strict=True)
    for (a, y), (b, z) in pairs:
        assert torch.equal(a, b) and torch.equal(y, z)


def stylegan_zip(path, root, labels, outer=""):
    """Write an archive as StyleGAN's dataset_tool does: numbered folders that are no classes, and dataset.json.

    `outer` is a folder around all of it.
    """
    names = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i, file in enumerate(sorted(root.rglob("*.png"))):
            names.append(f"{i // 10:05d}/img{i:08d}.png")
            archive.write(file, outer + names[-1])
        listed = None if labels is None else [[name, labels(i)] for i, name in enumerate(names)]
        archive.writestr(f"{outer}dataset.json", json.dumps({"labels": listed}))
    return path


@pytest.mark.parametrize("outer", ["", "my set/"])
def test_labels_of_dataset_json(image_folder, tmp_path, outer):
    data = opened("zip", stylegan_zip(tmp_path / "x.zip", image_folder, lambda i: i % 4, outer))
    assert data.labels.tolist() == [i % 4 for i in range(24)] and data.class_names == ["0", "1", "2", "3"]
    folder = open_folder(image_folder, (32, 32), 3, "raise")
    assert torch.equal(data.batch(torch.arange(24)), folder.batch(torch.arange(24)))
    bare = opened("zip", stylegan_zip(tmp_path / "y.zip", image_folder, None, outer))
    assert bare.class_names == [] and bare.labels.sum() == 0 and len(bare) == 24


def test_an_unpacked_dataset_json_is_not_ignored_in_silence(image_folder, tmp_path):
    shutil.unpack_archive(stylegan_zip(tmp_path / "x.zip", image_folder, lambda i: i % 4), tmp_path / "unpacked")
    data = open_folder(tmp_path / "unpacked", (32, 32), 3, "raise")
    assert data.class_names == ["00000", "00001", "00002"]
    assert any("dataset.json is not read: folders are the classes" in warning for warning in data.warnings)


def damaged_archives(folder, root):
    """Return an archive with a damaged list of labels, one in which it ends early, and one with a name in no code."""
    made = [folder / f"{name}.zip" for name in ("lzma", "deflated", "odd")]
    for path, method in zip(made[:2], (zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED), strict=True):
        with zipfile.ZipFile(write_zip(path, root), "a") as archive:
            archive.writestr("dataset.json", json.dumps({"labels": list(range(999))}), method)
            entry = archive.getinfo("dataset.json")
        content, start = bytearray(path.read_bytes()), entry.header_offset + 30 + len("dataset.json")
        if method == zipfile.ZIP_LZMA:
            content[start + 9 : start + 13] = b"\xff" * 4
        else:
            content[start : start + 5] = b"\0\xff\xff\0\0"  # a block of 65,535 bytes that is not the last
            directory = content.rfind(b"PK\1\2")
            content[directory + 20 : directory + 28] = struct.pack("<II", 2**20, 2**20)  # beyond the end of the file
        path.write_bytes(content)
    odd = write_zip(made[2], root, **{"é.txt": b""}).read_bytes()
    made[2].write_bytes(odd.replace("é".encode(), b"\xff\xfe"))
    return made


def test_archives_that_do_not_do_are_named(image_folder, tmp_path):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK no zip")
    lzma, deflated, odd = damaged_archives(tmp_path, image_folder)
    cases = {
        lzma: "lzma.zip: cannot be read as a zip archive: Corrupt input data",
        deflated: "deflated.zip: cannot be read as a zip archive: ",
        odd: "odd.zip: cannot be read as a zip archive: 'utf-8' codec can't decode",
        tmp_path / "missing.zip": "missing.zip: cannot be read as a zip archive: No such file",
        broken: "broken.zip: cannot be read as a zip archive: File is not a zip file",
        write_zip(tmp_path / "none.zip", tmp_path / "nothing", **{"a.txt": b""}): "no images in it",
        write_zip(tmp_path / "dos.zip", image_folder, **{"d\\0.png": b""}): r"d\\0.png: a backslash in a name",
        write_zip(tmp_path / "bomb.zip", image_folder, **{"dataset.json": bytes(2**27 + 1)}): "has more than 128 MiB",
        write_zip(tmp_path / "mixed.zip", image_folder, **{"loose.png": b""}): r"1 loose image \(such as loose.png\)",
        stylegan_zip(tmp_path / "a.zip", image_folder, lambda i: 0.5): "img00000000.png has the label 0.5, expected",
        stylegan_zip(tmp_path / "b.zip", image_folder, lambda i: -1): "img00000000.png has the label -1, expected",
        write_zip(tmp_path / "c.zip", image_folder, **{"dataset.json": '{"labels": []}'}): "a/00.png has no label",
        write_zip(tmp_path / "d.zip", image_folder, **{"dataset.json": "{"}): "dataset.json: expected",
        write_zip(tmp_path / "e.zip", image_folder, **{"a/dataset.json": '{"labels": []}'}): "b/01.png is outside",
    }
    for path, words in cases.items():
        with pytest.raises(UserError, match=words) as error:
            opened("zip", path)
        assert str(error.value).startswith(f"data.path {path}: ")


def test_a_damaged_entry_is_named_or_skipped(image_folder, tmp_path):
    path = write_zip(tmp_path / "x.zip", image_folder)
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("b/01.png").header_offset
    content = bytearray(path.read_bytes())
    content[offset + 60] ^= 255  # inside the file: its checksum no longer fits
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot read the image .*x.zip/b/01.png: Bad CRC-32"):
        opened("zip", path).load()
    assert len(opened("zip", path, on_error="skip").load()) == 23


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """Nothing of a test stays in the user's cache, and nothing may be downloaded."""
    datasets = pytest.importorskip("datasets", reason="the extra 'hub' is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return datasets


def test_a_folder_through_datasets_is_the_folder(hub_cache, image_folder):
    data = opened("huggingface", image_folder)
    assert_same(data, open_folder(image_folder, (32, 32), 3, "raise"))
    assert torch.equal(pickle.loads(pickle.dumps(data)).batch(torch.arange(3)), data.batch(torch.arange(3)))


def write_parquet(datasets, root, path, label, kinds=None):
    files = sorted(root.rglob("*.png"))
    columns = {"picture": [{"bytes": f.read_bytes(), "path": None} for f in files]}
    columns |= {"label": [label("abc".index(f.parent.name)) for f in files], "note": ["x"] * len(files)}
    table = datasets.Dataset.from_dict(columns).cast_column("picture", datasets.Image())
    for column, kind in (kinds or {}).items():
        table = table.cast_column(column, kind)
    path.mkdir()
    table.to_parquet(path / "train-00000-of-00001.parquet")
    return path


def test_parquet_files_through_datasets_are_the_folder(hub_cache, image_folder, tmp_path):
    data = opened("huggingface", write_parquet(hub_cache, image_folder, tmp_path / "pq", int))
    assert data.class_names == ["0", "1", "2"]
    data.class_names = ["a", "b", "c"]
    assert_same(data, open_folder(image_folder, (32, 32), 3, "raise"))


def test_what_datasets_cannot_open_is_one_line(hub_cache, image_folder, tmp_path, monkeypatch):
    import pyarrow.parquet

    with pytest.raises(UserError, match="huggingface cannot open the split test: .*train"):
        find_data(DataConfig("huggingface", str(image_folder), 32), "test")
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="csv: no column of images among a, b"):
        opened("huggingface", tmp_path / "csv")
    with pytest.raises(UserError, match="label has the label -1, expected an integer from 0"):
        opened("huggingface", write_parquet(hub_cache, image_folder, tmp_path / "neg", lambda c: -1))
    beyond = write_parquet(
        hub_cache, image_folder, tmp_path / "beyond", int, {"label": hub_cache.ClassLabel(names=["a", "b", "c"])}
    )
    file = beyond / "train-00000-of-00001.parquet"
    table = pyarrow.parquet.read_table(file)
    known = table.schema.metadata[b"huggingface"].replace(b'"b", "c"', b'"b"')
    pyarrow.parquet.write_table(table.replace_schema_metadata({b"huggingface": known}), file)
    with pytest.raises(UserError, match="the column label has the label 2, but only 2 names"):
        opened("huggingface", beyond)
    masks = {"label": hub_cache.Array2D((2, 2), "int64")}
    for name, label, kinds in (("null", lambda c: None if c else 0, {}), ("mask", lambda c: [[c, 0], [0, 0]], masks)):
        with pytest.raises(UserError, match="the column label has other cells than labels, expected an integer from 0"):
            opened("huggingface", write_parquet(hub_cache, image_folder, tmp_path / name, label, kinds))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"data.source huggingface: the package datasets is missing.*'\.\[hub\]'"):
        opened("huggingface", image_folder)


@pytest.mark.parametrize(
    ("path", "name", "revision"), [("user/name", "user/name", None), ("user/name@v1", "user/name", "v1")]
)
def test_a_name_on_the_hub_may_carry_a_revision(hub_cache, monkeypatch, path, name, revision):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(hub_cache, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=f"data.path {path}: .* cannot open the split train: no network at all$"):
        opened("huggingface", path)
    assert asked == [((name,), {"split": "train", "revision": revision})]


def write_arrays(folder, n=12, size=32):
    for split, seed in (("train", 0), ("test", 1)):
        (folder / split).mkdir(parents=True)
        noise = np.random.default_rng(seed).integers(0, 256, (n, 3, size, size), np.uint8)
        np.save(folder / split / "images.npy", noise)
        np.save(folder / split / "labels.npy", np.arange(n) % 2)
    return folder


OWN = "tests.helpers.own_data.Arrays"


def test_a_class_of_ones_own(tmp_path):
    folder = write_arrays(tmp_path / "arrays")
    for split in ("train", "test"):
        data = find_data(DataConfig(OWN, str(folder), 32), split)
        images = torch.from_numpy(np.load(folder / split / "images.npy"))
        assert torch.equal(data.batch(torch.tensor([5, 0])), images[[5, 0]])
        assert data.class_names == ["healthy", "ill"] and data.labels.tolist() == [0, 1] * 6
    assert data.source == f"{OWN} (test) in {folder}"


@pytest.mark.parametrize(
    ("source", "size", "words"),
    [
        ("nowhere.Mine", 32, "data.source nowhere.Mine: cannot be imported: ModuleNotFoundError"),
        ("tests.helpers.own_data.Nope", 32, "own_data.Nope: cannot be imported: AttributeError"),
        (OWN, 64, r"dataset\[0\]: the image is uint8 \(3, 32, 32\), expected uint8 \(3, 64, 64\)"),
    ],
)
def test_a_class_that_does_not_do_is_named(tmp_path, source, size, words):
    with pytest.raises(ConfigError, match=words):
        find_data(DataConfig(source, str(write_arrays(tmp_path / "arrays")), size))
    with pytest.raises(UserError, match=f"data.source {OWN}: cannot be opened: FileNotFoundError"):
        find_data(DataConfig(OWN, str(tmp_path), 32))


def test_an_unknown_source_lists_the_known_ones(capsys):
    assert main(["train", "quickstart", "--data.source", "shape"]) == 2
    assert "--data.source shape: expected one of shapes, pairs," in (error := capsys.readouterr().err)
    assert "or the path of a class such as my_module.MyDataset" in error
    assert main(["train", "quickstart", "--data.source=zip"]) == 2
    assert "data.path null: data.source zip needs an archive" in capsys.readouterr().err


def test_a_run_on_ones_own_data_resumes_and_its_class_is_trusted_like_a_kind(tmp_path, monkeypatch, capsys):
    """A module that exists only here, so that importing it shows."""
    folder, module = write_arrays(tmp_path / "arrays"), tmp_path / "modules" / "sent_to_us.py"
    module.parent.mkdir()
    shutil.copy(own_data.__file__, module)
    monkeypatch.syspath_prepend(module.parent)
    own = {"data.source": "sent_to_us.Arrays", "data.workers": 0}
    run = train_run(tmp_path / "run", folder, **own, **{"training.steps": 1})
    assert train_run(tmp_path / "run", folder, **own, **{"training.steps": 2}) == run
    monkeypatch.delitem(sys.modules, "sent_to_us")
    monkeypatch.setattr("sagan.runs.evaluation.build_extractor", cheap_extractor)
    few = {"num_samples": 12, "device": "cpu"}
    capsys.readouterr()
    assert main(["evaluate", run, *tokens(few)]) == 1
    error = capsys.readouterr().err
    assert f"{run}: names the data source sent_to_us.Arrays, and opening it would run the module sent_to_us" in error
    assert "--trust_module sent_to_us" in error and "sent_to_us" not in sys.modules
    with pytest.raises(UntrustedCode):
        evaluate(run, ["num_samples=12"], device="cpu")
    for allowed in ({"trust_module": "sent_to_us"}, {"data.source": "sent_to_us.Arrays", "split": "test"}):
        assert main(["evaluate", run, *tokens({**few, **allowed})]) == 0
        monkeypatch.delitem(sys.modules, "sent_to_us")
    require_trusted_source(DataConfig("shapes"), run)
