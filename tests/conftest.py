import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the tensors of tests are too small to share

import numpy as np
import pytest
from PIL import Image

from sagan.presets import load_config


@pytest.fixture(scope="session", autouse=True)
def own_cache_of_features(tmp_path_factory):
    """Keep features of real images away from those of the user and of earlier runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """24 images of noise, 32x32, in three class folders."""
    root = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    for i, image in enumerate(noise):
        folder = root / "abc"[i % 3]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    return root


@pytest.fixture
def make_config(image_folder, tmp_path):
    """make_config("training.steps=2", ...): a configuration that a CPU trains in no time, with these overrides."""
    tiny = [
        f"run_dir={tmp_path / 'run'}",
        "device=cpu",
        "data.source=folder",
        f"data.path={image_folder}",
        "data.num_classes=3",
        "model.generator.channels=4",
        "model.generator.z_dim=8",
        "model.discriminator.channels=4",
        "training.precision=float32",
        "training.batch_size=4",
        "logging.images_every=0",  # pictures take longer to draw than such a step
        "logging.attention_every=0",
    ]
    return lambda *overrides: load_config(None, [*tiny, *overrides])
