"""Evaluation: FID, IS, KID, precision and recall, and intra-class FID, on torch-fidelity's metric functions; density
and coverage; and agreement, for data whose source has a rule.

Read in this order: `extractors` (images -> features), `features` (the loop over images and processes), `metrics` (pure
functions of features), `reference` (the real side, computed once), `evaluate` (the two ways in).
"""

from sagan.evaluation.evaluate import compare_folders, evaluate
from sagan.evaluation.extractors import Extractor, build_extractor, require_room
from sagan.evaluation.scores import Scores, comparable_terms

__all__ = ["Extractor", "Scores", "build_extractor", "comparable_terms", "compare_folders", "evaluate", "require_room"]
