"""The Python interface."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

import sagan
from sagan.commands.app import main
from sagan.config import ConfigError, UserError
from sagan.runs.checkpoints import find_checkpoint, load_checkpoint
from sagan.runs.records import read_records
from tests.helpers.pages import ROOT
from tests.helpers.tiny_runs import cheap_extractor


class Toys(TensorDataset):
    classes = ("ant", "bee", "cow")


def toys(seed=0, count=24):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Toys(images, torch.arange(count) % 3)


@pytest.fixture(scope="module")
def config():
    return sagan.load_config(
        "quickstart",
        ["training.steps=2", "training.batch_size=4", "model.generator.channels=8", "model.discriminator.channels=8",
         "data.num_classes=null", "logging.attention_every=2", "device=cpu"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return sagan.train(replace(config, run_dir=str(tmp_path_factory.mktemp("api") / "run")), toys())


def longer(config, run, steps=3):
    return replace(config, run_dir=str(run), training=replace(config.training, steps=steps))


def test_every_name_is_there_and_nothing_else():
    assert all(getattr(sagan, name) is not None for name in sagan.__all__)
    with pytest.raises(AttributeError, match="module 'sagan' has no attribute 'nothing'"):
        sagan.nothing  # noqa: B018


def test_a_run_on_a_data_set_from_python_records_it(run):
    generator = sagan.load_generator(run)
    assert generator.origin.config.data.source == "dataset" and generator.origin.class_names == ("ant", "bee", "cow")
    assert load_checkpoint(find_checkpoint(run))["data"]["images"] == 24


def test_it_resumes_with_the_same_data_set_only(config, run, tmp_path):
    sagan.train(longer(config, tmp_path / "one", 2), toys())
    with pytest.raises(ConfigError, match=r"data.source dataset: .* give it again: sagan.train\(config, dataset=...\)"):
        sagan.train(longer(config, tmp_path / "one"))
    with pytest.raises(ConfigError, match="different images or labels, with the same number and classes"):
        sagan.train(longer(config, tmp_path / "one"), toys(seed=1))
    with pytest.raises(ConfigError, match="images: 24 in the run, 21 now"):
        sagan.train(longer(config, tmp_path / "one"), toys(count=21))
    sagan.train(longer(config, tmp_path / "one"), toys())
    sagan.train(longer(config, tmp_path / "whole"), toys())
    one, whole = (load_checkpoint(find_checkpoint(tmp_path / name)) for name in ("one", "whole"))
    assert one["step"] == 3
    assert all(torch.equal(one["generator"][name], value) for name, value in whole["generator"].items())


def test_it_is_measured_against_that_data_set_only(run, monkeypatch, capsys):
    monkeypatch.setattr("sagan.runs.evaluation.build_extractor", cheap_extractor)
    options = ["num_samples=12", "extractor.name=efficientnet-lite0"]
    with pytest.raises(ConfigError, match="data.source dataset: .* give it again"):
        sagan.evaluate(run, options)
    assert main(["evaluate", str(run), "--num_samples", "12"]) == 2
    assert "data.source dataset" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="trained on a data set from Python, which is not this one"):
        sagan.evaluate(run, options, dataset=toys(seed=1))
    scores = sagan.evaluate(run, options, dataset=toys())
    assert scores.protocol["n_real"] == 24 and scores.protocol["n_fake"] == 12
    assert "evaluation" in read_records(run / "metrics.jsonl")[-1]


def test_callbacks_see_every_step(config, tmp_path):
    seen = []

    class Watch(sagan.Callback):
        def after_step(self, run, metrics):
            seen.append((run.state.step, float(metrics["loss/generator"])))

    sagan.train(longer(config, tmp_path / "run"), toys(), callbacks=[Watch()])
    assert [step for step, _ in seen] == [1, 2, 3]


class Decay(sagan.Callback):
    """Learning rates that are a function of the step."""

    def after_step(self, run, metrics):
        for optimizer in run.state.optimizers.values():
            optimizer.param_groups[0]["lr"] = 1e-3 * 0.5**run.state.step


def test_learning_rates_of_a_callback_are_recorded_and_resumed(config, tmp_path):
    for steps in (2, 4):
        sagan.train(longer(config, tmp_path / "one", steps), toys(), callbacks=[Decay()])
    sagan.train(longer(config, tmp_path / "whole", 4), toys(), callbacks=iter([Decay()]))  # any iterable
    one, whole = (load_checkpoint(find_checkpoint(tmp_path / name)) for name in ("one", "whole"))
    assert all(torch.equal(one["generator"][name], value) for name, value in whole["generator"].items())
    records = [r for r in read_records(tmp_path / "whole/metrics.jsonl") if "lr/generator" in r]
    assert records[-1]["lr/generator"] == records[-1]["lr/discriminator"] == 1e-3 * 0.5**3  # of step 4 itself


def test_a_callback_may_stop_the_run_which_saves_itself(config, tmp_path):
    class Stop(sagan.Callback):
        def after_step(self, run, metrics):
            if run.state.step == 2:
                run.stop()

    run = sagan.train(longer(config, tmp_path / "run", 10), toys(), callbacks=[Stop()])
    assert load_checkpoint(find_checkpoint(run))["step"] == 3
    sagan.train(longer(config, run, 4), toys())
    assert load_checkpoint(find_checkpoint(run))["step"] == 4


def test_a_finished_run_is_not_that_of_other_data(config, run):
    finished = replace(config, run_dir=str(run))
    assert sagan.train(finished, toys()) == run
    with pytest.raises(ConfigError, match="different images or labels"):
        sagan.train(finished, toys(seed=1))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_item_that_turns_bad_ends_the_run_after_it_is_saved(config, tmp_path, workers):
    sign = tmp_path / "sign"  # which worker processes see too

    class Worse(Toys):
        def __getitem__(self, index):
            return None if sign.exists() else super().__getitem__(index)

    class Spoil(sagan.Callback):
        def after_step(self, run, metrics):
            sign.touch()

    from_disk = replace(config.data, memory_gb=0.0, workers=workers)
    config = replace(config, data=from_disk, logging=replace(config.logging, attention_every=0))  # shows real images
    with pytest.raises(UserError, match=r"dataset\[\d+\]: NoneType, expected a pair .*; step \d+ is saved"):
        sagan.train(longer(config, tmp_path / "run", 40), Worse(*toys().tensors), [Spoil()])
    assert load_checkpoint(find_checkpoint(tmp_path / "run"))["step"] > 0


def test_data_with_other_classes_can_be_scored(monkeypatch):
    monkeypatch.setattr("sagan.runs.evaluation.build_extractor", cheap_extractor)
    options = ["num_samples=12", "extractor.name=efficientnet-lite0"]
    scores = sagan.evaluate(ROOT / "experiments/cifar10-cpu/generator.safetensors", options, dataset=toys())
    assert scores.protocol["n_real"] == 24


def test_what_is_no_run_is_named(config):
    for function in (sagan.load_generator, sagan.evaluate, sagan.attention_figure, lambda run: sagan.sample(run, 1)):
        with pytest.raises(ConfigError, match="^run Config: expected the path of a run"):
            function(config)


def test_paths_may_begin_at_home(config, run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.parent))
    assert sagan.load_generator("~/run", device="auto").origin.step == 2
    assert sagan.load_config("~/run/config.yaml").training == sagan.load_generator(run).origin.config.training


class Half:
    def after_step(self, run, metrics): ...


def test_numbers_of_numpy_are_numbers(config, run):
    steps, rate = np.int64(2), np.float64(config.optimizer.generator_lr)
    given = replace(longer(config, run, steps), optimizer=replace(config.optimizer, generator_lr=rate))
    assert sagan.train(given, toys()) == run  # which is finished


def test_another_default_dtype_is_refused(config, tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ConfigError, match=r"get_default_dtype\(\) torch.float64: .* torch.float32"):
            sagan.train(longer(config, tmp_path / "run"), toys())
    finally:
        torch.set_default_dtype(torch.float32)


def test_callbacks_are_a_list(config, tmp_path):
    for given in (None, sagan.Callback()):
        with pytest.raises(ConfigError, match="^callbacks .*: expected a list"):
            sagan.train(longer(config, tmp_path / "run"), toys(), callbacks=given)


@pytest.mark.parametrize("given", [sagan.Callback, Half(), print, None])
def test_what_is_no_callback_is_refused_before_anything_is_read(config, tmp_path, given):
    with pytest.raises(ConfigError, match=r"^callbacks\[1\] .*: expected an instance of a subclass of Callback"):
        sagan.train(longer(config, tmp_path / "run"), toys(), callbacks=[sagan.Callback(), given])
    assert not list(tmp_path.iterdir())


def test_overrides_may_be_one_text():
    assert sagan.load_config("quickstart", "training.steps=3").training.steps == 3
    for wrong in (["training.steps"], [("training.steps", 3)]):
        with pytest.raises(ConfigError, match=r"training.steps.*: expected an override such as"):
            sagan.load_config("quickstart", wrong)


def test_samples_are_those_of_the_generator(run):
    images = sagan.sample(run, 4, classes="bee", seed=1)
    assert torch.equal(images, sagan.load_generator(run).sample(4, classes=[1], seed=1))


def test_a_figure_of_the_attention(run):
    for network in ("generator", "discriminator"):
        figure = sagan.attention_figure(run, network=network, num=2)
        assert isinstance(figure, Image.Image) and min(figure.size) > 100
    with pytest.raises(ConfigError, match="layer blocks.9: the generator has attention maps of blocks.1.attention"):
        sagan.attention_figure(run, layer="blocks.9")
