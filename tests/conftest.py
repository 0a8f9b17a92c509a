"""What tests of every directory share. Importing this imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Tests run side by side: torch's threads would wait for each other's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def model_dir_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a family's tiny random model, made once a session; do not write to it."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        from families import make_model_dir

        if family not in made:
            made[family] = make_model_dir(family, tmp_path_factory.mktemp("models") / family)
        return made[family]

    return make
