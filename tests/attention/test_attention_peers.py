"""Agreement with independent implementations, if they are installed."""

import pytest
import torch
from torch import nn

from sagan.attention import capture_maps
from tests.helpers.attention_kinds import build, images, open_gate


def copy(source: torch.Tensor, target: torch.Tensor) -> None:
    with torch.no_grad():
        target.copy_(source.view_as(target))


def test_multihead_attention_of_torch():
    ours = open_gate(build("multihead", {"heads": 4, "bias": True})).double()
    theirs = nn.MultiheadAttention(32, 4, batch_first=True).double()
    parts = (ours.query, ours.key, ours.value)
    copy(torch.cat([part.weight for part in parts]), theirs.in_proj_weight)
    copy(torch.cat([part.bias for part in parts]), theirs.in_proj_bias)
    copy(ours.out.weight, theirs.out_proj.weight)
    copy(ours.out.bias, theirs.out_proj.bias)
    x = images(dtype=torch.float64)
    tokens = x.flatten(2).mT
    expected, weights = theirs(tokens, tokens, tokens, average_attn_weights=False)
    with capture_maps(ours) as maps:
        y = ours(x)
    torch.testing.assert_close(y, x + 0.7 * expected.mT.view_as(x))
    torch.testing.assert_close(maps[""][0].weights, weights)


def timm_layer(name: str, *args, **kwargs) -> nn.Module:
    """Return a layer of timm with random parameters."""
    layers = pytest.importorskip("timm.layers", reason="timm is not installed")
    from timm.layers.cbam import CbamModule

    try:
        layer = {"CbamModule": CbamModule, **vars(layers)}[name](*args, **kwargs)
    except TypeError as error:  # as in timm 1.0, whose GatherExcite passes an argument twice
        pytest.skip(f"timm's {name} cannot be built: {error}")
    torch.manual_seed(5)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer.double().eval()


def agree(ours: nn.Module, theirs: nn.Module, pairs: dict[str, str]) -> None:
    """Assert equal outputs in the published form, after copying their parameters to ours by name."""
    ours.double().eval()
    mine, yours = dict(ours.named_parameters()), dict(theirs.named_parameters())
    assert set(pairs) == set(mine) and set(pairs.values()) == set(yours)
    for a, b in pairs.items():
        copy(yours[b], mine[a])
    x = images(dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))


def norms(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.gain.weight": f"{theirs}.weight", f"{ours}.bias.weight": f"{theirs}.bias"}


def both(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{p}": f"{theirs}.{p}" for p in ("weight", "bias")}


def test_squeeze_excite_of_timm():
    theirs = timm_layer("SEModule", 32, rd_channels=2)
    agree(build("se", gate="none"), theirs, both("squeeze", "fc1") | both("excite", "fc2"))


def test_efficient_channel_attention_of_timm():
    theirs = timm_layer("EcaModule", 32)
    agree(build("eca", gate="none"), theirs, {"weight": "conv.weight"})


@pytest.mark.parametrize("extent", [2, 4, 8, "global"])
def test_gather_excite_without_parameters_of_timm(extent):
    theirs = timm_layer(
        "GatherExcite", 32, extra_params=False, use_mlp=False, extent=0 if extent == "global" else extent
    )
    agree(build("ge", {"variant": "theta-minus", "extent": extent}, gate="none"), theirs, {})


@pytest.mark.parametrize("extent", [2, 4, 8])
def test_gather_excite_of_timm(extent):
    theirs = timm_layer("GatherExcite", 32, extra_params=True, use_mlp=False, extent=extent)
    names = {}
    for i in range({2: 1, 4: 2, 8: 3}[extent]):
        names[f"gather.{2 * i}.weight"] = f"gather.conv{i + 1}.weight"
        names |= norms(f"gather.{2 * i}.norm", f"gather.norm{i + 1}")
    agree(build("ge", {"variant": "theta", "extent": extent}, gate="none"), theirs, names)


def test_cbam_of_timm():
    """timm's spatial convolution takes mean and maximum in the opposite order."""
    theirs = timm_layer("CbamModule", 32, rd_ratio=1 / 16, rd_divisor=1, mlp_bias=True)
    theirs.spatial.conv.register_forward_pre_hook(lambda module, inputs: (inputs[0].flip(1),))
    names = both("squeeze", "channel.fc1") | both("excite", "channel.fc2") | norms("norm", "spatial.conv.bn")
    agree(build("cbam", gate="none"), theirs, names | {"conv.weight": "spatial.conv.conv.weight"})


def test_global_context_of_timm():
    """timm's score has a bias, which does not change the softmax, and its layer norm a different epsilon."""
    theirs = timm_layer("GlobalContext", 32, rd_channels=2, fuse_add=True, fuse_scale=False)
    theirs.conv_attn.bias, theirs.mlp_add.norm.eps = None, 1e-5
    names = {"score.weight": "conv_attn.weight"} | both("squeeze", "mlp_add.fc1") | both("norm", "mlp_add.norm")
    agree(build("global-context", gate="none"), theirs, names | both("excite", "mlp_add.fc2"))


def test_non_local_attention_of_timm():
    theirs = timm_layer("NonLocalAttn", 32, rd_ratio=0.5, use_scale=False)
    ours = build("non-local", {"scale": False, "subsample": "none"}, gate="none")
    names = both("theta", "t") | both("phi", "p") | both("g", "g") | both("out", "z") | norms("norm", "norm")
    agree(ours, theirs, names)
