import pytest
import torch

from sagan.training.state import build_state


@pytest.fixture
def make_state(make_config):
    """Return a function: make_state("training.d_steps=2", ...) builds a new training state, float32 on the CPU."""
    return lambda *overrides: build_state(make_config(*overrides), torch.device("cpu"), torch.float32)
