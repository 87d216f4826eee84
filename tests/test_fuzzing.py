"""Configurations, YAML files and checkpoints that Hypothesis makes up: each is read, or is one error in one line."""

import copy
import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from sagan.config import Config, ConfigError, UserError, flatten, to_config, to_yaml
from sagan.config.reading import option_types
from sagan.presets import load_config
from sagan.runs.checkpoints import find_checkpoint, load_checkpoint
from sagan.runs.networks import load_discriminator, load_generator
from sagan.runs.saved_networks import load_run_config
from tests.helpers.fuzzing import ANYTHING, TEXT, fitting, nested, settings
from tests.helpers.tiny_runs import untrained_run

WORD = st.text(st.characters(codec="utf-8"), max_size=30)


def examples(number):
    """Use the same examples on every machine and in every run."""
    return profile(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


def tried(few, many):
    """Run a test with a few examples in `make test`, and with many if slow tests are asked for."""

    def decorate(test):
        counts = [few, pytest.param(many, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]

        @pytest.mark.parametrize("number", counts)
        def run(number, request, tmp_path_factory):
            examples(number)(test)(tmp_path_factory.mktemp("fuzz"))

        run.__doc__ = test.__doc__
        return run

    return decorate


def outcome(call) -> Any:
    """Return what a call returns, or None for an error that a person can read in one line."""
    with warnings.catch_warnings(action="error"):
        try:
            return call()
        except (ConfigError, UserError) as error:
            text = str(error)
            assert "\n" not in text and 10 < len(text) < 2000, text
            return None


@tried(10, 300)
@given(values=st.fixed_dictionaries({key: fitting(kind) for key, kind in option_types(Config).items()}))
def test_what_the_strategies_call_fitting_fits(folder, values):
    config = to_config(nested(values))
    assert dict(flatten(config)).keys() == values.keys()
    assert config.training.batch_size == values["training.batch_size"] >= 1


@tried(25, 600)
@given(values=settings(), data=st.data())
def test_settings_make_a_configuration_or_one_error(folder, values, data):
    words = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]
    words += data.draw(st.lists(WORD, max_size=1))
    config = outcome(lambda: load_config(None, words))
    if config is not None:
        assert to_config(asdict(config)) == config and to_config(yaml.safe_load(to_yaml(config))) == config


@tried(25, 600)
@given(values=settings(), text=st.none() | TEXT)
def test_a_yaml_file_makes_a_configuration_or_one_error_that_names_it(folder, values, text):
    file = Path(folder) / "x.yaml"
    content = yaml.safe_dump(nested(values)) if text is None else text
    assume(len(content.encode(errors="ignore")) > 0)
    file.write_text(content, encoding="utf-8", errors="ignore")
    with warnings.catch_warnings(action="error"):
        try:
            config = load_config(str(file))
        except ConfigError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            return
    assert isinstance(config, Config) and len(flatten(config)) == len(option_types(Config))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a checkpoint of random weights, and its content."""
    file = find_checkpoint(untrained_run(tmp_path_factory.mktemp("fuzzed") / "run"))
    return file, load_checkpoint(file)


PARTS = ("step", "config", "dtype", "data", "digest", "generator", "discriminator", "generator_ema", "other")


@pytest.mark.parametrize("number", [20, pytest.param(600, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])])
def test_a_checkpoint_with_other_content_loads_or_is_one_error_that_names_it(saved, number):
    file, content = saved

    @examples(number)
    @given(
        values=settings(),
        parts=st.dictionaries(st.sampled_from(PARTS), ANYTHING, max_size=2),
        removed=st.sets(st.sampled_from(PARTS), max_size=1),
        shape=st.none() | st.lists(st.integers(0, 4), max_size=4),
    )
    def check(values, parts, removed, shape):
        changed = copy.deepcopy({key: value for key, value in content.items() if key not in removed})
        if isinstance(changed.get("config"), dict):
            for key, value in values.items():
                *sections, last = key.split(".")
                inside = changed["config"]
                for name in sections:
                    inside = inside[name]
                inside[last] = value
        if shape is not None:
            name = next(iter(content["generator"]))
            changed["generator_ema"] = {**content["generator"], name: torch.zeros(shape)}
        torch.save({**changed, **parts}, file)
        for load in (load_generator, load_discriminator, load_run_config):
            with warnings.catch_warnings(action="error"):
                try:
                    load(file)
                except UserError as error:
                    assert str(error).startswith(str(file)) and "\n" not in str(error) and len(str(error)) < 2000

    check()
