"""Whole models with sparse MLPs: what runs is what the masked reference computes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from e2e_support import compiled, error, random_ids
from families import make_model_dir
from imposed import Masked, impose

from sparsecomp.options import Dtype
from sparsecomp.passes import schedule_lookahead, schedule_workers
from sparsecomp.reference.exec import Session
from sparsecomp.sparsify import Sparsified
from sparsecomp.sparsity import Approximate, Choice, Cutoff, Exact, LowRank

MAX_ERROR = 2e-5
"""Relative to the largest logit."""
POSITIONS = 64
HIDDEN, UNITS = 32, 75
PROMPT, LENGTH = 5, 12
IDS = random_ids(LENGTH)

SHARE = {"density": 0.5, "active": 0.25}
ABOVE = LowRank(rank=6, threshold=0.0, **SHARE)
BEST = LowRank(rank=6, count=5, group=16, **SHARE)
EARLY = LowRank(rank=6, threshold=0.0, lookahead=1, **SHARE)
IMITATED = Approximate(rank=6, threshold=0.1, **SHARE)
EVERYTHING = (LowRank(rank=6, threshold=-1e30, density=1.0, active=1.0),) * 3
NONZERO = Cutoff(of=Exact.NEURON, threshold=0.0, density=0.5)
LARGE = Cutoff(of=Exact.NEURON, threshold=0.1, density=0.5)
GATES = Cutoff(of=Exact.GATE, threshold=0.1, density=0.5)

OF_THREE = {"num_hidden_layers": 3}
OPT, LLAMA = "model.decoder.layers.{}", "model.layers.{}.mlp"
MODELS: dict[str, tuple[str, dict[str, object], str]] = {
    "relu": ("opt", OF_THREE | {"ffn_dim": UNITS}, OPT),
    "relu2": ("arcee", OF_THREE | {"intermediate_size": UNITS}, LLAMA),
    "gated": ("llama", OF_THREE | {"intermediate_size": UNITS}, LLAMA),
    "gated-relu": ("llama", OF_THREE | {"intermediate_size": UNITS, "hidden_act": "relu"}, LLAMA),
}
"""Family, what it has of its own, its MLPs."""
CHOICES: dict[str, tuple[Choice, ...]] = {
    "relu": (BEST, EARLY, NONZERO),
    "relu2": (IMITATED, NONZERO, LARGE),
    "gated": (EARLY, GATES, IMITATED),
    "gated-relu": (ABOVE, GATES, NONZERO),
}


class Model:
    """A family, and what the reference computes with these choices."""

    def __init__(self, name: str, path: Path):
        family, overrides, layers = MODELS[name]
        self.name = name
        self.path = make_model_dir(family, path, **overrides)
        self.layers = layers
        self.masked = Masked(self.path, self.imposed(CHOICES[name]), POSITIONS)
        self.expected = self.masked.logits(IDS, PROMPT)[1:].numpy()

    def imposed(self, choices: Sequence[Choice]) -> Sparsified:
        named = {self.layers.format(i): choice for i, choice in enumerate(choices)}
        parts = 2 if "gated" in self.name else 1
        return impose(named, HIDDEN, UNITS, parts=parts)


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    folder = tmp_path_factory.mktemp("models")
    return functools.cache(lambda name: Model(name, folder / name))


@pytest.mark.parametrize("name", MODELS)
def test_fewer_neurons_change_the_logits(name: str, model_of: Callable[[str], Model]) -> None:
    model = model_of(name)
    dense = Masked(model.path, None, POSITIONS).logits(IDS, PROMPT)[1:].numpy()
    assert error(model.expected, dense) > 1e-2


@pytest.mark.parametrize("workers", (1, 3))
@pytest.mark.parametrize("name", MODELS)
def test_the_schedule(
    name: str,
    workers: int,
    model_of: Callable[[str], Model],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule_workers, "SMALL_LINEAR", 200)  # predictors are split
    model = model_of(name)
    module = model.masked.scheduled(workers)
    assert str(module).count("exec.sparse_mlp") == 3
    for reverse in (False, True):
        session = Session(module, model.masked.weights, positions=POSITIONS, reverse=reverse)
        session.prefill(torch.tensor(IDS[:PROMPT]), 0)
        rows = [session.decode(IDS[p], p) for p in range(PROMPT, LENGTH)]
        assert error(torch.stack(rows).numpy(), model.expected) <= MAX_ERROR


def artifact_logits(
    model: Model, output: Path, choices: Sequence[Choice], **options: object
) -> np.ndarray:
    """Of the tokens decoded after the prompt."""
    sparse = model.imposed(choices) if choices else None
    with (
        compiled(model.path, output, sparse=sparse, **options) as loaded,
        loaded.session() as session,
    ):
        session.prefill(IDS[:PROMPT])
        return np.stack([session.decode(i).copy() for i in IDS[PROMPT:]])


@pytest.mark.parametrize("name", ("relu", "gated"))
def test_the_artifact(
    name: str,
    model_of: Callable[[str], Model],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule_workers, "SMALL_LINEAR", 200)  # predictors are split
    monkeypatch.setattr(schedule_lookahead, "AT_ONCE", 1)  # many turns
    model = model_of(name)
    actual = artifact_logits(model, tmp_path / "a.spz", CHOICES[name], workers=3)
    assert error(actual, model.expected) <= MAX_ERROR


def test_everything_selected_equals_dense_exactly(
    model_of: Callable[[str], Model], tmp_path: Path
) -> None:
    """For one activation; the tests of the kernels have all."""
    dense, sparse = (
        artifact_logits(model_of("relu"), tmp_path / "a.spz", choices, dtype=Dtype.BF16, workers=3)
        for choices in ((), EVERYTHING)
    )
    assert np.array_equal(dense, sparse)
