"""Every test has a state directory of its own, and a toy model to run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from runtime_support import Toy, build_toy

from sparsecomp.runtime import state


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "state"
    monkeypatch.setenv("SPARSECOMP_STATE_DIR", str(directory))
    return directory


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return build_toy(tmp_path_factory.mktemp("toy") / "toy.so")


@pytest.fixture
def untrusted_toy(tmp_path: Path, library: bytes) -> Toy:
    return Toy(tmp_path, library)


@pytest.fixture
def toy(untrusted_toy: Toy) -> Toy:
    assert state.remember_compiled(hashlib.sha256(untrusted_toy.library).hexdigest())
    return untrusted_toy
