"""Evaluation while training, and which checkpoint is the best so far."""

import copy
from dataclasses import dataclass

import torch

from sagan.config import Config, EvaluationConfig
from sagan.data import Dataset
from sagan.evaluation import Extractor, Scores, build_extractor, evaluate
from sagan.models.generator import Generator
from sagan.models.sampling import image_sampler, take_statistics


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
