"""The table of costs, against sums done by hand."""

import pytest
import torch

from sagan.attention import KINDS
from sagan.benchmark.attention import _flops, _peak_bytes
from sagan.commands.app import main
from sagan.runtime.device import device_name

# Multiply-adds of one 256-channel 32x32 map, L = 1024 positions, P = 256 pooled ones.
C, L, P = 256, 1024, 256
MULTIPLY_ADDS = {
    "sagan": 1.25 * C**2 * L + L * P * C * 5 / 8,
    "multihead": 4 * C**2 * L + 2 * L**2 * C,
    "additive": 1.25 * C**2 * L + L * P * C * 5 / 8,
    "non-local": C**2 * L + C**2 * P + L * P * C,
    "base-oc": 3.5 * C**2 * L + L**2 * C,  # the shared projection of query and key counts once
    "se": C**2 / 8,
    "global-context": 2 * C * L + C**2 / 8,
}


@pytest.mark.parametrize("kind", MULTIPLY_ADDS)
def test_arithmetic(kind):
    assert _flops(kind, (32, 32), C) == pytest.approx(2 * MULTIPLY_ADDS[kind], rel=1e-3)


def test_memory_at_once():
    def chain() -> None:
        x = torch.zeros(1024, 256)  # 1 MiB; each turn makes the next before it lets go of the last
        for _ in range(5):
            x = x + 1

    def kept_for_backward() -> None:
        x = torch.zeros(1024, 256, requires_grad=True)
        for _ in range(5):
            x = x.exp()

    assert _peak_bytes(chain, torch.device("cpu")) / 2**20 == pytest.approx(2, abs=0.01)
    assert _peak_bytes(kept_for_backward, torch.device("cpu")) / 2**20 == pytest.approx(6, abs=0.01)


def table(capsys, *options):
    """Return the head of the command's answer, and the cells of its table."""
    assert main(["bench", "--attention", "--repeats", "1", "--threads", str(torch.get_num_threads()), *options]) == 0
    head, _, names, _, *rows = capsys.readouterr().out.splitlines()
    return head, [dict(zip(names.split(" | "), row.split(" | "), strict=True)) for row in rows]


def test_every_kind_has_a_row_on_every_map(capsys):
    head, rows = table(capsys, "--batch", "2", "--channels", "32", "--sizes", "[8,16]")
    measured = [kind for kind in KINDS if kind != "none"]
    assert [row["kind"] for row in rows] == [f"`{kind}`" for kind in measured] * 2
    assert [row["| map"] for row in rows] == [f"| {n}×{n}" for n in (8, 16) for _ in measured]
    assert next(row for row in rows if row["kind"] == "`sagan`")["parameters"] == "1,281"  # 1.25 C^2 + 1
    assert all(float(row["forward + backward, ms"]) > 0 for row in rows)
    assert head.startswith("2 images, 32 channels, float32; ") and f"torch {torch.__version__}" in head
    assert device_name(torch.device("cpu")) in head  # the model, where the system tells


def test_chosen_kinds_and_a_kind_of_ones_own(capsys):
    path = "tests.helpers.own_attention.NeighbourhoodGate"
    _, rows = table(capsys, "--channels", "32", "--sizes", "8", "--kinds", f"[se,{path}]", "--precision", "bf16")
    assert [row["kind"] for row in rows] == ["`se`", f"`{path}`"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--batch 1", "--batch 1: expected 2 or more"),
        ("--repeats 0", "--repeats 0: expected a number above 0"),
        ("--sizes []", "--sizes []: expected at least one number above 0"),
        ("--kinds [se,none]", "--kinds [se, none]: expected null or kinds other than none"),
        ("--kinds see", "attention.kind see: expected one of none, residual"),
        ("--precision half", "--precision half: expected one of float32, bf16"),
        ("--sizes [16,7]", "kind sagan does not fit a 7x7 map"),
        ("--device gpu", "device gpu: expected auto, cpu"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(options, expected, capsys, monkeypatch):
    monkeypatch.setattr("sagan.benchmark.attention.attention_costs", lambda *args, **kwargs: pytest.fail("measured"))
    assert main(["bench", "--attention", *options.split()]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


def test_a_preset_has_no_part_in_it(capsys):
    for words in (["cifar10", "--attention"], ["--attention", "cifar10"]):
        assert main(["bench", *words]) == 2
        assert "cifar10: --attention measures attention systems alone" in capsys.readouterr().err
