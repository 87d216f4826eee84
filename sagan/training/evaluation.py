"""Evaluation while training, and which checkpoint is the best so far."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from sagan.checkpoint import checkpoint_path, write_atomically
from sagan.config import Config, EvaluationConfig
from sagan.data import Dataset
from sagan.evaluation import Extractor, Scores, build_extractor, evaluate
from sagan.generate import image_sampler
from sagan.models.generator import Generator


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
        return cls(config.evaluation, build_extractor(config.evaluation.extractor, device))

    def __call__(self, generator: Generator, data: Dataset, step: int, ema: bool) -> Scores:
        return evaluate(
            image_sampler(generator, self.config.seed, self.config.truncation),
            num_classes=generator.num_classes,
            real=data,
            extractor=self.extractor,
            config=self.config,
            protocol={"step": step, "ema": ema, "batch_norm": "running"},
        )


def fid_of(scores: Scores) -> float | None:
    """The Frechet distance among the scores, whatever its extractor; None where there is none."""
    return next((v for name, v in scores.values.items() if name.startswith("fid")), None)


def remember_if_best(scores: Scores, run_dir: Path, step: int) -> None:
    """Makes RUN/best.json name the checkpoint of `step`, if no evaluation before found a lower Frechet distance."""
    file, value = run_dir / "best.json", fid_of(scores)
    best = json.loads(file.read_text())["fid"] if file.is_file() else None
    if value is None or (best is not None and best <= value):
        return
    content = {"checkpoint": checkpoint_path(run_dir, step).name, "step": step, "fid": value, **scores.record()}
    write_atomically(file, lambda f: f.write(json.dumps(content, indent=2).encode()))
