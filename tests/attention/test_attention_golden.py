"""Golden values computed with the authors' or third-party code, in float64, on one fixed input."""

import math

import pytest
import torch

from sagan.attention import capture_maps
from sagan.attention.multihead import sinusoidal_positions
from tests.helpers.attention_kinds import build

SAGAN_CODE = ["query.weight", "key.weight", "value.weight", "out.weight"]
SAGAN_V1 = ["query.weight", "query.bias", "key.weight", "key.bias", "value.weight", "value.bias"]
NON_LOCAL = ["g.weight", "g.bias", "out.weight", "out.bias", "theta.weight", "theta.bias", "phi.weight", "phi.bias"]
CONTEXT = [
    "context.key.conv.weight",
    "context.key.conv.bias",
    "context.value.weight",
    "context.value.bias",
    "context.out.weight",
    "context.out.bias",
    "fuse.conv.weight",
    "fuse.conv.bias",
]
BOTTLENECK = ["squeeze.weight", "squeeze.bias", "excite.weight", "excite.bias"]
MASK = [f"{unit}.conv{i}.weight" for unit in ("before", "trunk.0", "trunk.1", "down.0", "bottom") for i in (1, 2, 3)]
MASK += ["head.2.weight", "head.5.weight", *(f"after.conv{i}.weight" for i in (1, 2, 3))]

# kind, options, names of parameters in order of k, expected: sum, sum of squares, y[1, 7, 2, 3]
GOLDEN = [
    ("sagan", {}, SAGAN_CODE, (-2.87549224, 256.25389514, 1.03064718)),
    ("sagan", {"variant": "v1"}, SAGAN_V1, (14.21655538, 276.99356594, 0.74358025)),
    ("non-local", {"scale": False, "subsample": "none"}, NON_LOCAL, (6.77415261, 258.93349503, 0.93201229)),
    ("non-local", {"scale": False, "subsample": "conv-first"}, NON_LOCAL, (5.18942957, 263.79125354, 0.96689450)),
    ("non-local", {"subsample": "none"}, NON_LOCAL, (6.85600302, 259.19413899, 0.92084444)),
    ("non-local", {"form": "dot-product", "subsample": "none"}, NON_LOCAL, (-3.50824618, 275.33689881, 1.16941641)),
    (
        "non-local",
        {"form": "dot-product", "subsample": "conv-first"},
        NON_LOCAL,
        (-2.73483773, 272.62816143, 1.14544600),
    ),
    ("base-oc", {}, CONTEXT, (162.06409933, 139.56482362, 1.21099619)),
    ("se", {"reduction": 8}, BOTTLENECK, (0.08204382, 63.82999079, 0.53500016)),
    ("ge", {"variant": "theta-minus", "extent": "global"}, [], (0.81169667, 64.04405367, 0.51774972)),
    ("ge", {"variant": "theta-minus", "extent": 2}, [], (0.70842562, 64.42370232, 0.45354249)),
    ("ge", {"variant": "theta", "extent": 2}, ["gather.0.weight"], (-2.74161107, 68.92887410, 0.27990447)),
    ("ge", {"variant": "theta", "extent": "global"}, ["gather.0.weight"], (1.45473791, 77.38627402, 0.20239341)),
    ("cbam", {"reduction": 8}, [*BOTTLENECK, "conv.weight"], (0.03665592, 16.28355274, 0.31118534)),
    ("residual-attention", {"depth": 1}, MASK, (0.71730631, 583.16837681, 1.55710974)),
]


def wave(number: int) -> torch.Tensor:
    return torch.arange(number, dtype=torch.float64)


def golden_input() -> torch.Tensor:
    return torch.sin(0.7 * wave(2 * 16 * 4 * 4)).view(2, 16, 4, 4)


def fill(tensor: torch.Tensor, k: int) -> None:
    with torch.no_grad():
        tensor.copy_((0.25 * torch.sin(k + 0.7 * wave(tensor.numel()))).view_as(tensor))


def golden_layer(kind: str, options: dict, names: list[str]) -> torch.nn.Module:
    """Return the published form in evaluation mode, with the parameters of the golden rows; every gain is 1."""
    layer = build(kind, options, channels=16, size=(4, 4), gate="none").double().eval()
    parameters = dict(layer.named_parameters())
    for k, name in enumerate(names, 1):
        fill(parameters.pop(name), k)
    for name, parameter in parameters.items():  # the rest are gains and biases of norms, and gamma
        with torch.no_grad():
            parameter.fill_(0.0 if name.endswith("norm.bias.weight") or ".bias.weight" in name else 1.0)
    return layer


@pytest.mark.parametrize("kind, options, names, expected", GOLDEN, ids=lambda v: str(v) if isinstance(v, str) else "")
def test_golden_value(kind, options, names, expected):
    layer = golden_layer(kind, options, names)
    if hasattr(layer, "norm") and kind == "non-local":
        layer.norm = torch.nn.Identity()  # the golden rows were computed without batch norm
    y = layer(golden_input())
    assert [y.sum().item(), y.square().sum().item(), y[1, 7, 2, 3].item()] == pytest.approx(expected, abs=2e-8)


def test_golden_map_of_sagan():
    layer = golden_layer("sagan", {}, SAGAN_CODE)
    with capture_maps(layer) as maps:
        layer(golden_input())
    first_row = maps[""][0].weights[0, 0, 0]
    assert first_row.tolist() == pytest.approx([0.24290942, 0.25523524, 0.24663423, 0.25522111], abs=2e-8)


def test_golden_mask_of_residual_attention():
    layer = golden_layer("residual-attention", {"depth": 1}, MASK)
    with capture_maps(layer) as maps:
        layer(golden_input())
    assert maps[""][0].weights.mean().item() == pytest.approx(0.49857380, abs=2e-8)


def test_golden_value_of_multihead():
    """The correction alone, with the three projections as one (48, 16) matrix."""
    layer = build("multihead", {"heads": 4}, channels=16, size=(4, 4), gate="none").double()
    projection = torch.empty(48, 16, dtype=torch.float64)
    fill(projection, 1)
    with torch.no_grad():
        for part, rows in zip((layer.query, layer.key, layer.value), projection.chunk(3), strict=True):
            part.weight.copy_(rows.view_as(part.weight))
    fill(layer.out.weight, 2)
    o = layer.transform(golden_input())
    found = [o.sum().item(), o.square().sum().item(), o[1, 7, 2, 3].item()]
    assert found == pytest.approx((0.01146533, 0.05716355, -0.00755033), abs=2e-8)


def test_sinusoidal_positions():
    """Two frequencies, 1 and 0.01: sin y, sin x, cos y, cos x at y = 1, x = 2."""
    table = sinusoidal_positions(8, 2, 3)[:, 1, 2]
    expected = [f(p * w) for f in (math.sin, math.cos) for p in (1, 2) for w in (1, 0.01)]
    assert table.tolist() == pytest.approx(expected, abs=1e-6)
