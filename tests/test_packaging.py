"""What an installed copy holds, far from the checkout."""

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMES = sorted(file.stem for file in (ROOT / "experiments").glob("*.yaml"))

LOOK = """
import sagan, sys
from sagan.parsing import config_file, describe_preset, presets
print(sagan.__file__, *presets())
assert all(describe_preset(name) for name in presets())
assert "torch" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("hatchling") is None, reason="building the wheel needs hatchling: pip install hatchling")
def test_the_wheel_carries_the_presets(tmp_path):
    def pip(*arguments):
        subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, arguments)], check=True, timeout=200)

    pip("wheel", ROOT, "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path)
    (wheel,) = tmp_path.glob("sagan-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert [name for name in NAMES if f"sagan/experiments/{name}.yaml" not in names] == []
    assert not any(name.startswith(("tests/", "experiments/", "runs/", "data/")) for name in names)

    installed = tmp_path / "installed"
    pip("install", wheel, "--no-deps", "--target", installed)
    found = subprocess.run(
        [sys.executable, "-c", LOOK],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert Path(found[0]).is_relative_to(installed)
    assert found[1:] == NAMES
