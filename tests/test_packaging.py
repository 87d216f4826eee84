"""What an installed copy holds, far from the checkout."""

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from sagan import __version__

ROOT = Path(__file__).parent.parent
NAMES = sorted(file.stem for file in (ROOT / "experiments").glob("*.yaml"))

LOOK = """
import sagan, sys
from sagan.presets import config_file, describe_preset, presets
print(sagan.__file__, *presets())
assert all(describe_preset(name) for name in presets())
from sagan.ablation.plan import load_plan, plan_file, plan_names
assert [str(load_plan(plan_file(name)).folder) for name in plan_names()] == plan_names() != []
assert "torch" not in sys.modules
"""

LOOK_FOR_TAB = """
import sys
from importlib.metadata import entry_points
from tensorboard.plugins.base_plugin import TBContext
(entry,) = entry_points(group="tensorboard_plugins", name="sagan_attention")
plugin = entry.load()().load(TBContext())
assert not {"torch", "torchvision", "PIL"} & set(sys.modules)
print(sys.modules["sagan"].__file__, *plugin.get_plugin_apps())
"""


def test_citation_and_changelog_name_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert __version__ in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.skipif(find_spec("hatchling") is None, reason="building the wheel needs hatchling: pip install hatchling")
def test_the_wheel_carries_presets_tab_types_and_licence(tmp_path):
    def pip(*arguments):
        subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, arguments)], check=True, timeout=200)

    pip("wheel", ROOT, "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path)
    (wheel,) = tmp_path.glob("sagan_pytorch-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert [name for name in NAMES if f"sagan/experiments/{name}.yaml" not in names] == []
    assert "sagan/py.typed" in names and any(name.endswith("/licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "experiments/", "runs/", "data/")) for name in names)

    installed = tmp_path / "installed"
    pip("install", wheel, "--no-deps", "--target", installed)

    def found(program):
        """Return what a program prints that sees the installed copy, which must come from there."""
        env = {**os.environ, "PYTHONPATH": str(installed)}
        command = [sys.executable, "-c", program]
        result = subprocess.run(command, env=env, cwd=tmp_path, check=True, capture_output=True, text=True)
        file, *words = result.stdout.split()
        assert Path(file).is_relative_to(installed)
        return words

    assert found(LOOK) == NAMES
    static = {f"/{file.name}" for file in (ROOT / "sagan/viewing/plugin/static").iterdir()}
    assert len(static) > 5 and static < set(found(LOOK_FOR_TAB))
