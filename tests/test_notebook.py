"""The notebook runs from its first cell to its last, with fewer steps."""

import ast
import json
from pathlib import Path

from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "samples" / "tour.ipynb"


def run_cell(source: str, names: dict) -> object:
    """Execute a cell and return the value of its last line, as a notebook shows it."""
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), str(NOTEBOOK), "exec"), names)
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names) if last else None


def test_the_tour(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = ["".join(c["source"]) for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    assert "STEPS = 1000" in cells[1] and "training.steps=20" in cells[-1]
    names: dict = {}
    shown = [
        run_cell(cell.replace("STEPS = 1000", "STEPS = 3").replace("training.steps=20", "training.steps=2"), names)
        for cell in cells
    ]
    assert len(names["losses"].history) == 3
    assert [type(value) for value in shown if isinstance(value, Image.Image)] == [Image.Image, Image.Image]
    assert shown[-2] == {"blocks.1.attention": [("matrix", (1, 1, 256, 64))]}
    assert tuple(shown[-1]) == (4, 3, 32, 32)
