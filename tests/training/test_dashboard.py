"""What TensorBoard shows of a run beside its curves, read as TensorBoard's own plugins read it."""

import json

import pytest
import torch
from tensorboard.backend import application
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
from werkzeug.test import Client

from sagan.runs.dashboard import DESCRIPTIONS, description, named_options
from sagan.runs.log import RunLog
from sagan.runs.records import read_records
from sagan.training.diagnostics import of_each_network
from tests.helpers.providers import LOADERS, loaded

SCORE = "evaluation/fid_efficientnet_lite0"
SINGULAR = {"singular_value/generator.a": 3.0, "singular_value/generator.b": 1.0, "singular_value/generator.c": 2.0,
            "singular_value/discriminator.a": 5.0}  # fmt: skip


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """Two runs of an ablation."""
    root = tmp_path_factory.mktemp("dashboard")
    for kind, score in (("sagan", 12.5), ("none", 20.25)):
        (root / kind).mkdir()
        with RunLog(root / kind) as log:
            log.begin(0)
            options = {"optimizer": {"lr": 2e-4}, "data": {"path": None}, "logging": {"every": 5}}
            configuration = {"model": {"kind": kind, "sizes": [8, 16]}, **options}
            log.describe(configuration, f"model:\n  kind: {kind}", [SCORE])
            log.record(1, {"loss/generator": 1.0, "loss/discriminator": 2.0})
            log.record(1, SINGULAR, charted=of_each_network(SINGULAR))
            log.image("samples/ema", torch.zeros(3, 4, 4, dtype=torch.uint8), 1)
            log.record(2, {"fid_efficientnet_lite0": score}, group="evaluation/")
    return root


@pytest.fixture(params=LOADERS)
def data(request, logdir):
    with loaded(request.param, logdir) as found:
        yield found


def context():
    from tensorboard.context import RequestContext

    return RequestContext()


def test_every_tag_says_what_it_is(data):
    scalars = data.list_scalars(context(), experiment_id="", plugin_name="scalars")["sagan"]
    said = {tag: series.description for tag, series in scalars.items()}
    assert said == {tag: description(tag) for tag in said} and all(said.values())
    assert said["loss/generator"] == "Loss of the generator."
    images = data.list_blob_sequences(context(), experiment_id="", plugin_name="images")["sagan"]
    assert images["samples/ema"].description in (DESCRIPTIONS["samples/"], "")  # the data server drops it of images


def test_singular_values_are_two_curves_a_network_and_a_table(data, logdir):
    scalars = data.list_scalars(context(), experiment_id="", plugin_name="scalars")["sagan"]
    names = {f"singular_value/{n}.{of}" for n in ("generator", "discriminator") for of in ("largest", "median")}
    assert {tag for tag in scalars if tag.startswith("singular_value/")} == names
    read = data.read_scalars(context(), experiment_id="", plugin_name="scalars", downsample=10)["sagan"]
    assert [read[f"singular_value/generator.{of}"][0].value for of in ("largest", "median")] == [3.0, 2.0]
    texts = data.read_tensors(context(), experiment_id="", plugin_name="text", downsample=10)["sagan"]
    told = texts["singular_value/text_summary"][0].numpy.item().decode()
    assert "| generator.b | 1 |" in told and told.count("\n") == 1 + len(SINGULAR)
    assert "kind: sagan" in texts["configuration/text_summary"][0].numpy.item().decode()
    (record,) = [r for r in read_records(logdir / "sagan/metrics.jsonl") if "singular_value/generator.a" in r]
    assert record == {"step": 1, **SINGULAR}


@pytest.mark.parametrize("loader", LOADERS)
def test_real_and_generated_stand_in_one_chart_and_runs_compare_by_their_options(loader, logdir):
    with loaded(loader, logdir) as found:
        given = TBContext(data_provider=found, logdir=str(logdir))
        plugins = [CustomScalarsPlugin(given), HParamsPlugin(given)]
        client = Client(application.TensorBoardWSGI(plugins, "", found))
        layout = client.get("/data/plugin/custom_scalars/layout").json
        charts = {chart["title"]: chart["multiline"]["tag"] for c in layout["category"] for chart in c["chart"]}
        assert charts["Logits, real and generated"] == ["logits/real", "logits/fake"]
        wanted = {
            "experimentName": "",
            "colParams": [],
            "startIndex": 0,
            "sliceSize": 10,
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        }
        answer = client.post("/data/plugin/hparams/session_groups", data=json.dumps(wanted))
        groups = {g["hparams"]["model.kind"]: g for g in answer.json["sessionGroups"]}
        assert set(groups) == {"sagan", "none"} and groups["sagan"]["hparams"]["optimizer.lr"] == pytest.approx(2e-4)
        assert set(groups["none"]["hparams"]) == {"model.kind", "model.sizes", "optimizer.lr"}
        scores = {kind: g["metricValues"][0]["value"] for kind, g in groups.items()}
        assert scores == {"sagan": 12.5, "none": 20.25}
        assert groups["sagan"]["metricValues"][0]["name"]["tag"] == SCORE


def test_leaves_are_the_options_by_their_full_names():
    found = dict(named_options({"a": {"b": 1, "c": {}}, "d": [1, 2], "e": None, "f": True}))
    assert found == {"a.b": 1, "a.c": "{}", "d": "[1, 2]", "f": True}
