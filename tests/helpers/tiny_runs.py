"""Runs, and a feature extractor, that cost next to nothing."""

from dataclasses import asdict

import torch

from sagan.commands.app import main
from sagan.config import to_yaml
from sagan.evaluation import Extractor
from sagan.layers import BatchNorm
from sagan.models.build import build_discriminator, build_generator
from sagan.presets import load_config
from sagan.runs.checkpoints import save_checkpoint

TINY_MODEL = {"model.generator.channels": 8, "model.discriminator.channels": 8, "model.generator.z_dim": 8}
TINY = {
    **TINY_MODEL,
    "training.batch_size": 4,
    "training.steps": 2,
    "training.precision": "float32",
    "device": "cpu",
    "logging.images_every": 0,  # pictures take longer to draw than such a step
    "logging.attention_every": 0,
}


def tokens(options):
    """Options as a command line has them."""
    return [f"--{key}={value}" for key, value in options.items()]


def train_run(run_dir, data, **options):
    """Two steps on a folder of images, through the command line; the run directory, as text."""
    source = {"data.source": "folder", "data.path": data, "run_dir": run_dir}
    assert main(["train", *tokens({**TINY, **source, **options})]) == 0
    return str(run_dir)


def untrained_run(run_dir, **options):
    """Return a run directory with a checkpoint of random weights, under which classes and averages look different."""
    options = {**TINY, "data.num_classes": 3, "run_dir": run_dir, **options}
    config = load_config(None, [f"{key}={value}" for key, value in options.items()])
    networks = {"generator": build_generator(config), "discriminator": build_discriminator(config)}
    if config.training.ema_decay:
        networks["generator_ema"] = build_generator(config)
    random = torch.Generator().manual_seed(0)
    for network in networks.values():
        for module in network.modules():
            if isinstance(module, BatchNorm):
                torch.nn.init.normal_(module.gain.weight, 1, 0.5, random)
                torch.nn.init.normal_(module.bias.weight, 0, 0.5, random)
    state = {name: network.state_dict() for name, network in networks.items()}
    save_checkpoint(run_dir, {"step": 0, "config": asdict(config), **state}, keep=1)
    (run_dir / "config.yaml").write_text(to_yaml(config))
    return str(run_dir)


def cheap_forward(images):
    """12 features and 5 logits by fixed random projections of a 4x4 thumbnail; deterministic on any machine."""
    generator = torch.Generator().manual_seed(1)
    thumbnails = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1)  # (n, 48)
    features = torch.tanh(thumbnails @ torch.randn(48, 12, generator=generator))
    return features, 4 * features @ torch.randn(12, 5, generator=generator)


def cheap_extractor(config=None, device="cpu", option="", **changes):
    """In place of `build_extractor`: an extractor that needs no weights, with these of its fields changed."""
    known = {"name": "cheap", "weights_sha256": "c" * 64, "feature_dim": 12, "logits_dim": 5, "resize": "4x4 mean"}
    return Extractor(**{**known, "device": torch.device("cpu"), "forward": cheap_forward, **changes})
