"""In what two run directories differ."""

import json
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sagan.runs.checkpoints import load_checkpoint
from sagan.runs.directory import checkpoints
from sagan.runs.records import read_records

UNSTEADY = ("time", "speed/images_per_second", "memory/peak_gib")


def differences(run_dir: Path, whole: Path) -> list[str]:
    """Return in what a run differs from the undisturbed one."""
    found = []
    names = [{str(p.relative_to(d)) for p in d.rglob("*") if "tfevents" not in p.name} for d in (run_dir, whole)]
    if names[0] != names[1]:
        found.append(f"files {sorted(names[0] ^ names[1])}")
    for one, two in zip(checkpoints(run_dir), checkpoints(whole), strict=False):
        found += [f"{one.name}: {name}" for name in unequal(load_checkpoint(one), load_checkpoint(two))]
    records = [
        [{k: v for k, v in r.items() if k not in UNSTEADY} for r in read_records(d / "metrics.jsonl")]
        for d in (run_dir, whole)
    ]
    found += ["metrics.jsonl"] * (records[0] != records[1])
    for file in sorted(whole.glob("samples/*.png")):
        found += [file.name] * (file.read_bytes() != (run_dir / "samples" / file.name).read_bytes())
    best = [json.loads((d / "best.json").read_text()) for d in (run_dir, whole)]
    found += ["best.json"] * (best[0] != best[1])
    boards = [board(d) for d in (run_dir, whole)]
    found += [f"TensorBoard: {tag}" for tag in boards[0].keys() | boards[1] if boards[0].get(tag) != boards[1].get(tag)]
    return found


def unequal(one, two, path: str = "") -> list[str]:
    """Return the places in which two nested values differ, apart from the name of the run."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return [p for key in one if key != "run_dir" for p in unequal(one[key], two[key], f"{path}/{key}")]
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)) and len(one) == len(two):
        return [p for i, pair in enumerate(zip(one, two, strict=True)) for p in unequal(*pair, f"{path}/{i}")]
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return [] if one.dtype == two.dtype and torch.equal(one, two) else [path]
    return [] if one == two else [path]


def board(run_dir: Path) -> dict:
    """Return what TensorBoard shows of a run, apart from what depends on the time."""
    loaded = EventAccumulator(str(run_dir), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    loaded.Reload()
    tags = loaded.Tags()
    shown = {f"image {t}": [(e.step, e.encoded_image_string) for e in loaded.Images(t)] for t in tags["images"]}
    for tag in tags["tensors"]:
        shown[f"tensor {tag}"] = [(e.step, e.tensor_proto.SerializeToString()) for e in loaded.Tensors(tag)]
    # A repeated evaluation adds the same point once more, and this loader keeps tensors that TensorBoard drops.
    return {t: list(dict.fromkeys(e)) for t, e in shown.items() if t.removeprefix("tensor ") not in UNSTEADY}
