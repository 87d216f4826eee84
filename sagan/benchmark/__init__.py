"""The speed of a training step, of its parts, of data, and the cost of every attention system."""

from typing import Literal

Form = Literal["eager", "compiled", "graphs", "plain", "mimicry"]
"""A form of the training step to compare with `auto`: the modes of `training.performance`, and two other programs."""
