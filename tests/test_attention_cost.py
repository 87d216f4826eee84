"""The table of costs, against sums done by hand."""

import pytest
import torch

from sagan.attention import KINDS
from sagan.attention_cost import _flops, _peak_bytes, attention_costs, main, markdown_table

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


def test_every_kind_has_a_row():
    rows = attention_costs(batch=2, channels=32, sizes=[(8, 16)], repeats=1)
    assert [row.kind for row in rows] == [kind for kind in KINDS if kind != "none"]
    assert all(row.parameters > 0 and row.forward_ms > 0 and row.peak_mib > 0 for row in rows)
    assert len(markdown_table(rows).splitlines()) == len(rows) + 2


def test_command(capsys):
    main(["--batch", "1", "--channels", "32", "--sizes", "8", "--kinds", "sagan", "--repeats", "1",
          "--threads", str(torch.get_num_threads())])  # fmt: skip
    assert "| 8×8 | `sagan` | 1,281 |" in capsys.readouterr().out
