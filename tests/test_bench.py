"""`sagan bench`: the report follows from the measurements, and both forms of the step compute the same."""

import json
import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sagan.benchmark import data as bench_data
from sagan.benchmark import forms
from sagan.benchmark import step as bench
from sagan.commands.app import main
from sagan.layers import Weights
from sagan.runtime.wording import counted
from sagan.training import performance, steps
from sagan.training.state import build_state

CPU = torch.device("cpu")


@pytest.fixture
def quick(monkeypatch):
    """Use the fewest possible rounds and a ceiling of 2 GFLOP/s, or 5 in bf16."""
    monkeypatch.setattr(bench, "SECONDS", 0.0)
    monkeypatch.setattr(bench, "PART_ROUNDS", 1)
    monkeypatch.setattr(performance, "BACKEND", "eager")  # inductor takes a minute
    monkeypatch.setattr(bench, "ceiling", lambda dtype, device: 2.0 if dtype == torch.float32 else 5.0)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_report_follows_from_the_measurements(make_config, tmp_path, capsys, monkeypatch, quick, precision):
    measured = {"auto": [0.4, 0.5, 0.8], "plain": [1.0, 2.0, 4.0]}
    monkeypatch.setattr(bench, "rounds", lambda functions, device: measured)
    monkeypatch.setattr(bench, "parts", lambda *args: {"d": 0.3, "g": 0.1})
    result = bench.bench(make_config(f"training.precision={precision}"), tmp_path / "bench.json")
    said = capsys.readouterr().out
    assert json.loads((tmp_path / "bench.json").read_text()) == result

    flops = forms.counted_flops(forms.plain_form(make_config(), CPU))
    known = {
        "speedup_over_plain": 4.0,
        "images_per_second": 8.0,
        "plain_images_per_second": 2.0,
        "seconds_per_step": 0.5,
        "gflops": flops / 0.5 / 1e9,
        "plain_gflops": flops / 2.0 / 1e9,
        "useful_gflop_per_image": flops / 4 / 1e9,
        "matmul_gflops": 2.0,
        "batch_size": 4,
    }
    assert {key: result[key] for key in known} == pytest.approx(known)
    assert 0.4 * flops < result["executed_gflop_per_image"] * 4e9 < 0.8 * flops  # fusion saves more than a third
    assert result["forms"]["auto"] == {"median": 0.5, "fastest": 0.4, "slowest": 0.8, "rounds": 3}
    best, name = (5, "bfloat16") if precision == "bf16" else (2, "float32")
    for words in (
        f"{result['device']}, {counted(torch.get_num_threads(), 'thread')}, {name}, 4 images",
        "this program       8.0 images/s (from 5.0 to 10.0, 3 rounds)",
        "plain              2.0 images/s (from 1.0 to 4.0, 3 rounds)",
        "speedup over plain 4.00",
        f"{result['executed_gflops'] / best:.2f} of the best product or convolution in {name} ({best})",
        "parts, each alone: d 300.0 ms (75 %), g 100.0 ms (25 %)",
    ):
        assert words in said


def test_a_form_that_fails_is_left_out_with_what_depends_on_it(make_config, tmp_path, capsys, monkeypatch, quick):
    def short(config, device):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")

    monkeypatch.setattr(bench, "plain_form", short)
    result = bench.bench(make_config(), tmp_path / "bench.json", ["compiled", "plain"])
    said = capsys.readouterr()
    assert "plain: left out: CUDA out of memory. Tried to allocate 9 GiB" in said.err
    assert not any("plain" in key or key == "gflops" for key in result) and list(result["forms"]) == [
        "auto",
        "compiled",
    ]
    assert result["executed_gflops"] > 0 and "plain" not in said.out
    assert json.loads((tmp_path / "bench.json").read_text()) == result


def test_fused_attention_counts_as_its_products_in_every_version_of_torch():
    """Two products of 2 n s t d FLOPs forwards, and the gradients of their four factors backwards."""
    n, s, t, d = 2, 16, 4, 8
    q, k, v = (torch.randn(n, 1, length, d, requires_grad=True) for length in (s, t, t))
    assert (
        forms.counted_flops(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward()) == 6 * 2 * n * s * t * d
    )


def test_every_form_and_part_is_timed(make_config, quick):
    result = bench.bench(make_config("data.num_classes=null"))
    assert result["seconds_per_step"] > 0 and result["plain_images_per_second"] > 0
    assert list(result["parts"]) == ["data", "d", "g", "optimizer", "ema", "logging"]
    assert all(seconds > 0 for seconds in result["parts"].values())


def test_only_the_forms_asked_for_are_measured_and_a_part_that_fails_loses_nothing(
    make_config, tmp_path, capsys, monkeypatch, quick
):
    def kept(*arguments):
        assert json.loads((tmp_path / "bench.json").read_text())["forms"]  # if time is up, too
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(bench, "parts", kept)
    result = bench.bench(make_config(), tmp_path / "bench.json", ["plain"])
    said = capsys.readouterr()
    assert list(result["forms"]) == ["auto", "plain"] and "parts" not in result
    assert "parts: left out: CUDA out of memory." in said.err and "parts" not in said.out
    assert json.loads((tmp_path / "bench.json").read_text()) == result


def test_the_ceiling_is_the_faster_of_product_and_convolution(monkeypatch):
    fast = {"matmul": 1e-3, "conv": 1e-1}
    kinds = []

    def quickest(function, device):
        x = function()
        kinds.append("matmul" if x.ndim == 2 else "conv")
        return fast[kinds[-1]]

    monkeypatch.setattr(bench, "quickest", quickest)
    assert bench.ceiling(torch.float32, CPU) == pytest.approx(2 * 2048**3 / 1e-3 / 1e9)
    assert set(kinds) == {"matmul", "conv"}
    fast["matmul"] = 10.0
    assert bench.ceiling(torch.float32, CPU) == pytest.approx(2 * 9 * 256**2 * 32 * 32 * 32 / 1e-1 / 1e9)


def losses_of(step, state, monkeypatch):
    """Return the losses of the updates in a step on seeded images, in order."""
    losses = []

    def noted(loss):
        return lambda *logits: losses.append(loss(*logits)) or losses[-1]

    with monkeypatch.context() as patch:
        for module in (steps, forms):
            for name in ("discriminator_hinge", "generator_hinge"):
                patch.setattr(module, name, noted(getattr(module, name)))
        torch.manual_seed(0)
        step(state, (replace(drawn, z=drawn.z.double()) for drawn in forms.noise_inputs(state)))
    return torch.stack(losses).detach()


def in_float64(state):
    """Return a state whose networks compute in float64, without a moving average."""
    for network in state.networks.values():
        network.to(torch.float64)
        network.compute_dtype = torch.float64
    return replace(
        state,
        generator_weights=Weights(state.generator),
        discriminator_weights=Weights(state.discriminator),
        moving_average=None,
    )


def test_both_forms_of_the_step_compute_the_same(make_config, monkeypatch):
    # In float32, batch norm over four images amplifies rounding errors to 5e-5 of a loss.
    config = make_config("training.d_steps=2")
    fast, plain = in_float64(build_state(config, CPU, torch.float32)), in_float64(forms.plain_state(config, CPU))
    before = fast.generator.to_image.weight.detach().clone()
    losses = [losses_of(*pair, monkeypatch) for pair in ((steps.train_step, fast), (forms.plain_step, plain))]
    assert len(losses[0]) == 3
    torch.testing.assert_close(*losses, rtol=1e-10, atol=0)
    assert (fast.generator.to_image.weight - before).abs().max() > 1e-5
    for network in ("generator", "discriminator"):
        one, other = (getattr(state, network).state_dict() for state in (fast, plain))
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=1e-7, atol=1e-9, msg=f"{network}.{name}")


class Slow(torch.utils.data.Dataset):
    """Images that take 20 ms each to read."""

    def __init__(self, path, size, channels, split):
        self.shape, self.opened = (channels, *size), False

    def __len__(self):
        return 8

    def __getitem__(self, index):
        time.sleep(0.02)
        return torch.zeros(self.shape, dtype=torch.uint8), index % 2


def test_data_that_hold_up_the_step_are_named(make_config, quick, tmp_path, capsys):
    own = (f"data.source={__name__}.Slow", "data.num_classes=2", "data.memory_gb=0", "data.workers=0", "data.path=null")
    slow = bench_data.bench(make_config(*own), tmp_path / "data.json")
    assert json.loads((tmp_path / "data.json").read_text()) == slow
    assert 0 < slow["delivered_images_per_second"] <= 50  # of 20 ms each
    assert "data is the bottleneck" in capsys.readouterr().out or slow["delivered_per_consumed"] >= 1


@pytest.mark.parametrize(
    ("delivered", "workers", "words"),
    [
        (4.0, 2, ["4.0 images/s", "8.0 images/s: 0.50 times as many arrive", "data is the bottleneck"]),
        (20.0, 2, ["8.0 images/s: 2.50 times as many arrive", "the step is the bottleneck: the data keep up"]),
        (80.0, 0, ["not read ahead", "the step is the bottleneck; loading its images adds 10.0% to its time"]),
    ],
)
def test_the_verdict_on_data_follows_from_the_rates(make_config, monkeypatch, capsys, delivered, workers, words):
    monkeypatch.setattr(bench_data, "seconds_of_step", lambda state: 1.0)
    monkeypatch.setattr(bench_data, "delivered_per_second", lambda config, data, state: delivered)
    options = ("training.d_steps=2", f"data.workers={workers}", "data.memory_gb=0")
    result = bench_data.bench(make_config(*options))
    assert result["consumed_images_per_second"] == 8  # two batches of four in a second
    said = capsys.readouterr().out
    assert [w for w in words if w not in said] == []


def test_the_option_data_of_bench_stands_beside_the_options_of_data(image_folder, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(bench_data, "bench", lambda config, file: asked.append(config.data.path))
    path = f"--data.path={image_folder}"
    for flag in (["--data"], ["--data", "true"], ["--data=true"]):
        assert main(["bench", "own-images", *flag, path]) == 0
    assert asked == [str(image_folder)] * 3
    assert main(["train", "quickstart", "--data", "true"]) == 2
    assert "--data true: expected one of its options, such as data.source" in capsys.readouterr().err
