"""The real side: which images, and a cache that never answers for something else."""

import logging

import pytest
import torch

from sagan.config import ConfigError
from sagan.evaluation.reference import choose_real, reference
from tests.helpers.stand_ins import make_real
from tests.helpers.tiny_runs import cheap_extractor, cheap_forward


def measured(real, extractor=None, split="train", num_real=0):
    """Return reference values, and whether images had to be looked at for them."""
    before = real.batches
    values = reference(real, split, num_real, extractor or cheap_extractor(), 64).values
    return values, real.batches > before


def test_second_time_comes_from_the_cache_and_is_equal(own_cache):
    first = reference(make_real(), "train", 0, cheap_extractor(), 64)
    again = make_real()
    second = reference(again, "train", 0, cheap_extractor(), 64)
    assert again.batches == 0
    for a, b in zip(
        (first.values, first.labels, *first.moments[1:]),
        (second.values, second.labels, *second.moments[1:]),
        strict=True,
    ):
        assert torch.equal(a, b)
    assert [p.suffix for p in own_cache.iterdir()] == [".safetensors"]


def test_other_images_of_the_same_name_shape_and_split_are_measured():
    a, _ = measured(make_real(seed=1))
    b, looked = measured(make_real(seed=2))
    assert looked and not torch.equal(a, b)


@pytest.mark.parametrize("change", [{"weights_sha256": "d" * 64}, {"resize": "2x2 mean"}, {"name": "other"}])
def test_other_weights_resize_or_extractor_is_measured(change):
    measured(make_real())
    other = cheap_extractor(forward=lambda x: tuple(-out for out in cheap_forward(x)), **change)
    values, looked = measured(make_real(), other)
    assert looked and torch.equal(values, other(make_real().images)[0])


def test_other_split_number_labels_or_library_is_measured(monkeypatch):
    measured(make_real())
    assert measured(make_real(), split="test")[1]
    assert measured(make_real(), num_real=100)[1]
    exchanged = make_real()
    exchanged.labels = 1 - exchanged.labels
    assert measured(exchanged)[1]
    monkeypatch.setattr("sagan.evaluation.reference.version", lambda package: "0.0")
    assert measured(make_real())[1]


def test_a_file_under_the_right_name_with_another_content_is_not_believed(own_cache, caplog):
    """Two files exchange their names: each is a whole, valid cache of something else."""
    measured(make_real(seed=1))
    (first,) = own_cache.iterdir()
    measured(make_real(seed=2))
    (second,) = set(own_cache.iterdir()) - {first}
    second.replace(first)
    values, looked = measured(make_real(seed=1))
    assert looked and torch.equal(values, cheap_extractor()(make_real(seed=1).images)[0])
    assert "computed again" in caplog.text


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_file_is_computed_again_and_replaced(own_cache, damage, caplog):
    expected, _ = measured(make_real())
    (path,) = own_cache.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-100] ^= 1
    path.write_bytes({"truncated": content[:-100], "flipped": content, "empty": b""}[damage])
    values, looked = measured(make_real())
    assert looked and torch.equal(values, expected)
    assert "computed again" in caplog.text
    assert not measured(make_real())[1]


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("a file where a folder should be")
    monkeypatch.setenv("SAGAN_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert measured(make_real())[1]
    assert str(tmp_path / "file") in caplog.text and "not cached" in caplog.text


def test_choice_is_balanced_nested_and_fixed():
    y = torch.arange(1000) % 10
    small, large = choose_real(y, 50), choose_real(y, 205)
    assert torch.bincount(y[small]).tolist() == [5] * 10
    assert sorted(torch.bincount(y[large]).tolist()) == [20] * 5 + [21] * 5
    assert set(small.tolist()) < set(large.tolist())
    assert small.tolist() != list(range(50)) and torch.equal(small, choose_real(y, 50))


def test_a_rare_class_leaves_its_turns_to_the_others():
    y = torch.tensor([0] * 3 + [1] * 50)
    assert torch.bincount(y[choose_real(y, 20)]).tolist() == [3, 17]


def test_more_real_images_than_there_are_is_refused_with_both_numbers():
    with pytest.raises(ConfigError, match="num_real 301.*300"):
        choose_real(make_real().labels, 301)
