"""Scores of images: FID, IS, KID, precision, recall, density, coverage, intra-class FID, and agreement.

Read in this order: `extractors` (images -> features), `features` (the loop over images and processes), `metrics` (pure
functions of features), `reference` (the real side, computed once), `evaluate` (the two entry points).
"""

from sagan.evaluation.evaluate import compare_folders, evaluate
from sagan.evaluation.extractors import Extractor, build_extractor, require_room
from sagan.evaluation.scores import Scores, comparable_terms

__all__ = ["Extractor", "Scores", "build_extractor", "comparable_terms", "compare_folders", "evaluate", "require_room"]
