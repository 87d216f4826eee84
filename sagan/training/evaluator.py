"""Evaluation during training."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from sagan.config import Config, EvaluationConfig
from sagan.data import Dataset
from sagan.evaluation import Extractor, Scores, build_extractor, evaluate, require_room
from sagan.models.generator import Generator
from sagan.models.image_sampler import image_sampler, take_statistics


@dataclass
class Evaluator:
    """The evaluation of a generator as `config` describes it."""

    config: EvaluationConfig
    extractor: Extractor

    @classmethod
    def build(cls, config: Config, device: torch.device) -> "Evaluator | None":
        """Return the evaluator of a configuration, or None if it asks for no evaluation.

        Raise UserError if the extractor's weights are missing.
        """
        if config.evaluation.every == 0:
            return None
        option = "--evaluation.extractor"
        extractor = build_extractor(config.evaluation.extractor, device, option)
        require_room(config.evaluation, extractor)
        return cls(config.evaluation, extractor)

    def __call__(self, generator: Generator, data: Dataset, step: int, ema: bool) -> Scores:
        """Return the scores of a generator in evaluation mode, without changing it.

        It computes in float32, as in `sagan evaluate`, whatever the precision of training.
        """
        config = self.config
        if config.standing_statistics:
            generator = copy.deepcopy(generator)
        with in_float32(generator):
            statistics = take_statistics(generator, config)
            return evaluate(
                image_sampler(generator, config.seed, config.truncation),
                num_classes=generator.num_classes,
                real=data,
                extractor=self.extractor,
                config=config,
                protocol={"step": step, "ema": ema, "batch_norm": statistics},
            )


@contextmanager
def in_float32(generator: Generator) -> Iterator[None]:
    """Let a generator compute in float32 for the duration of the block."""
    dtype, generator.compute_dtype = generator.compute_dtype, torch.float32
    try:
        yield
    finally:
        generator.compute_dtype = dtype
