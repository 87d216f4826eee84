"""Networks as graphs: what another program reads gives what the network gives."""

import io
import json
import sys

import numpy as np
import pytest
import torch

from sagan import load_discriminator, load_generator
from sagan.attention import attention_layers, capture_maps
from sagan.commands.app import main
from sagan.config import UserError
from sagan.models.build import build_discriminator, build_generator
from sagan.models.origin import Origin
from sagan.presets import load_config
from sagan.runs.saved_networks import holds_discriminator
from sagan.sharing.graphs import Graph, graph_bytes
from sagan.sharing.weights import export
from tests.helpers.attention_kinds import CASES, open_gate
from tests.helpers.tiny_runs import TINY, untrained_run

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return an exported generator with its discriminator beside it."""
    folder = tmp_path_factory.mktemp("graphs")
    return export(untrained_run(folder / "run"), folder / "weights")[0]


def graph_of(build, **options):
    """Return a network whose attention does something, as a graph with maps."""
    options = {
        **TINY,
        "data.num_classes": 3,
        "model.discriminator.channels": 16,
        **options,
    }  # maps of 32 channels in both
    config = load_config(None, [f"{k}={v}" for k, v in options.items()])
    network = build(config).eval().requires_grad_(False)
    network.origin = Origin(config, 0, False, ("a", "b", "c"))
    for layer in attention_layers(network).values():
        open_gate(layer)
    return Graph(network, maps=True)


def generator_inputs(n, z_dim=8, classes=3):
    return torch.randn(n, z_dim, generator=torch.Generator().manual_seed(n)), torch.arange(n) % classes


def run_onnx(content, **inputs):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {name: np.asarray(value) for name, value in inputs.items()})
    return dict(zip([o.name for o in session.get_outputs()], outputs, strict=True))


def assert_equal(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def onnx_files(weights, tmp_path_factory):
    """Both graphs, with maps, written by the command from the weights alone."""
    out = tmp_path_factory.mktemp("onnx")
    assert main(["export", str(weights), "--format", "onnx", "--maps", "--out", str(out)]) == 0
    files = [out / "generator.onnx", out / "discriminator.onnx"]
    assert sorted(out.iterdir()) == sorted(files)
    return files


@pytest.mark.parametrize("n", [1, 5])
def test_onnx_gives_what_the_networks_give(weights, onnx_files, n):
    generator, discriminator = load_generator(weights), load_discriminator(weights)
    z, y = generator_inputs(n)
    with capture_maps(generator) as maps:
        image = generator(z, y)
    found = run_onnx(onnx_files[0], z=z, y=y)
    assert list(found) == ["image", "blocks.1.attention.map"] and np.abs(found["image"]).max() <= 1
    assert_equal(found["image"], image)
    assert_equal(found["blocks.1.attention.map"], maps["blocks.1.attention"][0].weights)
    assert_equal(run_onnx(onnx_files[1], image=image, y=y)["logit"], discriminator(image, y))


def test_an_onnx_file_says_what_it_takes_and_what_it_is(onnx_files):
    session = onnxruntime.InferenceSession(onnx_files[0])
    shapes = {x.name: (x.type, x.shape) for x in [*session.get_inputs(), *session.get_outputs()]}
    assert shapes["z"] == ("tensor(float)", ["N", 8]) and shapes["y"] == ("tensor(int64)", ["N"])
    assert shapes["image"] == ("tensor(float)", ["N", 3, 32, 32])
    about = json.loads(session.get_modelmeta().custom_metadata_map["sagan"])
    assert (about["step"], about["weights"], about["config"]["data"]["num_classes"]) == (0, "generator_ema", 3)
    known = {"kind": "matrix", "query_size": [16, 16], "key_size": [8, 8], "distribution": True}
    assert about["maps"] == {"blocks.1.attention.map": known}


def test_pt2_from_a_run(tmp_path):
    run = untrained_run(tmp_path / "run", **{"data.num_classes": 0})
    assert main(["export", run, "--format=pt2"]) == 0
    extra = {"sagan": ""}
    module = torch.export.load(tmp_path / "run/export/generator.pt2", extra_files=extra).module()
    z, _ = generator_inputs(5)
    (image,) = module(z)  # no labels, and no maps were asked for
    torch.testing.assert_close(image, load_generator(run)(z), rtol=1e-4, atol=1e-4)
    assert json.loads(extra["sagan"])["step"] == 0
    discriminator = torch.export.load(tmp_path / "run/export/discriminator.pt2").module()
    torch.testing.assert_close(discriminator(image)[0], load_discriminator(run)(image), rtol=1e-4, atol=1e-4)


def test_a_discriminator_is_at_hand_in_a_run_and_beside_weights(weights, tmp_path):
    alone = tmp_path / "generator.safetensors"
    alone.write_bytes(weights.read_bytes())
    assert [holds_discriminator(place) for place in (weights.parent.parent / "run", weights, alone)] == [1, 1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case.exact], ids=str)
def test_onnx_carries_every_kind(case):
    """The maps are outputs, so each kind's own form of weights is compared, too."""
    for network, build in (("generator", build_generator), ("discriminator", build_discriminator)):
        option = f"model.{network}.attention"
        options = {f"{option}.options.{name}": value for name, value in case.options.items()}
        graph = graph_of(build, **{f"{option}.kind": case.kind, **options})
        inputs = graph.inputs(5)
        found = list(run_onnx(graph_bytes(graph, "onnx"), **dict(zip(graph.names, inputs, strict=True))).values())
        maps = graph.look(*inputs)[1]
        assert {m.kind for m in maps.values()} == set(case.maps) and len(found) == 1 + len(maps)
        for ours, theirs in zip(graph(*inputs), found, strict=True):
            assert_equal(theirs, ours)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_pt2_carries_every_kind(case):
    option = "model.discriminator.attention"
    options = {f"{option}.options.{name}": value for name, value in case.options.items()}
    graph = graph_of(build_discriminator, **{f"{option}.kind": case.kind, **options})
    module = torch.export.load(io.BytesIO(graph_bytes(graph, "pt2"))).module()
    inputs = graph.inputs(5)
    for ours, theirs in zip(graph(*inputs), module(*inputs), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


def test_onnx_refuses_bf16_by_name_and_pt2_carries_it():
    graph = graph_of(build_discriminator, **{"model.discriminator.attention.options.precision": "bf16"})
    words = "--format onnx: the discriminator with attention kind sagan, options.precision bf16: onnxruntime has no"
    with pytest.raises(UserError, match=words):
        graph_bytes(graph, "onnx")
    assert graph_bytes(graph, "pt2")


@pytest.mark.parametrize(
    ("kind", "words"),
    [("ReadsValues", "data-dependent"), ("ActsWhenTraced", "its results differ by .*, but only 0.0001")],
)
def test_a_kind_that_no_graph_carries_is_refused_by_name(kind, words):
    path = f"tests.helpers.odd_attention.{kind}"
    graph = graph_of(build_discriminator, **{"model.discriminator.attention.kind": path})
    with pytest.raises(
        UserError, match=f"pt2: the discriminator with attention kind {path} cannot be written: .*{words}"
    ):
        graph_bytes(graph, "pt2")


def test_what_cannot_be_done_is_one_line(weights, tmp_path, monkeypatch, capsys):
    assert main(["export", str(weights), "--maps"]) == 2
    assert "--maps true: weights have no outputs" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(weights), "--format=onnx", f"--out={tmp_path}"]) == 1
    line = "sagan export: error: --format onnx: the package onnxruntime is missing. Install the extra in a checkout: "
    assert capsys.readouterr().err == f"{line}pip install '.[onnx]'\n"
    assert list(tmp_path.iterdir()) == []
