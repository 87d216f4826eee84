import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_folder(tmp_path):
    """Write images of noise: make_folder({"cats": 3, "dogs": 2}) makes two class folders; a name may be a path."""

    def make(counts, root="images", size=(32, 32)):
        for number, (name, count) in enumerate(counts.items()):
            folder = tmp_path / root / name
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                noise = np.random.default_rng([number, i]).integers(0, 256, (*size, 3), np.uint8)
                Image.fromarray(noise).save(folder / f"{i:03d}.png")
        return tmp_path / root

    return make
