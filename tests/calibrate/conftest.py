"""Models that are exported once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from calibrate_support import Model, load
from families import make_model_dir


@pytest.fixture(scope="session")
def relu(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """MLPs without a gate, of 48 ReLU neurons; attentions of 4 heads, with biases."""
    return load(make_model_dir("opt", tmp_path_factory.mktemp("calibrate") / "relu"))


@pytest.fixture(scope="session")
def gated(model_dir_of: Callable[[str], Path]) -> Model:
    """Gated MLPs of 48 SiLU neurons; attentions of 4 heads in 2 groups."""
    return load(model_dir_of("llama"))
