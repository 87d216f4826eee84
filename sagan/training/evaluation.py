"""Evaluation while training, and which checkpoint is the best so far."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from sagan.checkpoint import checkpoint_path, read_best, write_atomically
from sagan.config import Config, EvaluationConfig
from sagan.data import Dataset
from sagan.distributed import any_process, is_main
from sagan.evaluation import Extractor, Scores, build_extractor, evaluate
from sagan.generate import image_sampler, take_statistics
from sagan.models.generator import Generator
from sagan.training.records import read_records


@dataclass
class Evaluator:
    """Scores a generator as `evaluation` says."""

    config: EvaluationConfig
    extractor: Extractor

    @classmethod
    def build(cls, config: Config, device: torch.device) -> "Evaluator | None":
        """None where the configuration asks for no evaluation. Raises UserError where the extractor's weights lack."""
        if config.evaluation.every == 0:
            return None
        option = "--evaluation.extractor"
        return cls(config.evaluation, build_extractor(config.evaluation.extractor, device, option))

    def __call__(self, generator: Generator, data: Dataset, step: int, ema: bool) -> Scores:
        """The scores of a generator in evaluation mode, which stays as it is."""
        config = self.config
        if config.standing_statistics:
            generator = copy.deepcopy(generator)
        statistics = take_statistics(generator, config)
        return evaluate(
            image_sampler(generator, config.seed, config.truncation),
            num_classes=generator.num_classes,
            real=data,
            extractor=self.extractor,
            config=config,
            protocol={"step": step, "ema": ema, "batch_norm": statistics},
        )


def evaluated(run_dir: Path, step: int) -> bool:
    """Whether the run has scores for a step; all processes get the answer of the main one."""
    if not is_main():
        return any_process(False)
    return any_process(
        any("evaluation" in r and r.get("step") == step for r in read_records(run_dir / "metrics.jsonl"))
    )


def fid_of(scores: Scores) -> float | None:
    """The Frechet distance among the scores, whatever its extractor; None where there is none."""
    return next((v for name, v in scores.values.items() if name.startswith("fid")), None)


def remember_if_best(scores: Scores, run_dir: Path, step: int) -> None:
    """Makes RUN/best.json name the checkpoint of `step`, if no evaluation before found a lower Frechet distance.

    Only those under the same protocol count, and only while their checkpoint is there.
    """
    file, value = run_dir / "best.json", fid_of(scores)
    if value is None:
        return
    content = {"checkpoint": checkpoint_path(run_dir, step).name, "step": step, "fid": value, **scores.record()}
    best = read_best(run_dir)
    if best and (run_dir / "checkpoints" / best["checkpoint"]).is_file():
        if best["fid"] <= value and _terms(best) == _terms(content):
            return
    write_atomically(file, lambda f: f.write(json.dumps(content, indent=2).encode()))


def _terms(record: dict) -> dict:
    """What two scores must share to be compared."""
    protocol = record["evaluation"]["protocol"]
    return {k: v for k, v in protocol.items() if k not in ("step", "sagan", "torch", "torch-fidelity")}
