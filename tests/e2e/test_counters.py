"""What a generated program counts: as many units as its lists hold, bytes as the accounts say."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from e2e_support import compile_dir, random_ids
from families import make_model_dir
from imposed import impose

import sparsecomp.runtime as rt
from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate import Window
from sparsecomp.evaluate.truth import agreement
from sparsecomp.options import Dtype
from sparsecomp.runtime.artifact import BlockKind, Part
from sparsecomp.sparsity import Choice, Cutoff, Exact, LowRank

HIDDEN, UNITS, LAYERS = 32, 75, 3
IDS = random_ids(12)
ABOVE = LowRank(rank=6, threshold=0.0, density=0.5, active=0.25)
BEST = LowRank(rank=6, count=5, group=16, density=0.5, active=0.25)
EVERYTHING = LowRank(rank=6, threshold=-1e30, density=1.0, active=1.0)
NONZERO = Cutoff(of=Exact.NEURON, threshold=0.0, density=0.5)

ROW = COLUMN = HIDDEN * 2
BIAS = 4
PREDICTOR = (6 * HIDDEN + UNITS * 6) * 2 + UNITS * BIAS

Make = Callable[[tuple[Choice, ...]], Path]


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("opt") / "opt"
    return make_model_dir("opt", path, num_hidden_layers=LAYERS, ffn_dim=UNITS)


@pytest.fixture(scope="module")
def artifact_of(tmp_path_factory: pytest.TempPathFactory, opt: Path) -> Make:
    """A tiny ReLU model, compiled with these choices for its MLPs."""
    folder = tmp_path_factory.mktemp("counters")

    @functools.cache
    def make(choices: tuple[Choice, ...]) -> Path:
        named = {f"model.decoder.layers.{i}": choice for i, choice in enumerate(choices)}
        sparse = impose(named, HIDDEN, UNITS) if choices else None
        output = folder / f"{len(list(folder.iterdir()))}.spz"
        return compile_dir(opt, output, dtype=Dtype.BF16, workers=3, sparse=sparse)

    return make


def test_lists_counters_and_bytes(artifact_of: Make) -> None:
    with rt.load(artifact_of((ABOVE, BEST, NONZERO))) as model, model.session() as session:
        session.prefill(IDS[:5])
        session.trace()
        lists = []
        for token in IDS[5:]:
            session.decode(token)
            lists.append(session.chosen())
        stats, manifest = session.stats(), model.manifest

    tokens = len(IDS) - 5
    assert (stats.decoded, stats.prefilled) == (tokens, 5)
    chosen = [sum(len(step[block]) for step in lists) for block in range(LAYERS)]
    assert chosen[1] == tokens * 5 * 5  # of 75 in groups of 16: five times five
    assert 0 < chosen[0] < tokens * UNITS and 0 < chosen[2] < tokens * UNITS
    for step in lists:
        for units in step:
            assert (units[1:] > units[:-1]).all() and (units >= 0).all() and (units < UNITS).all()
    for block, count in zip(stats.blocks, chosen, strict=True):
        assert block.kind is BlockKind.MLP
        assert block.density == count / (tokens * UNITS)
        assert 0 < block.active <= block.density
    assert stats.blocks[2].active == stats.blocks[2].density  # nothing is left to find out

    first, _, third = manifest.blocks
    assert (first.chosen_bytes, first.active_bytes) == (ROW + BIAS, COLUMN)
    assert (third.chosen_bytes, third.active_bytes) == (COLUMN, 0)
    assert (first.predictor_bytes, third.predictor_bytes) == (PREDICTOR, 0)
    further = [round(block.active * tokens * UNITS) for block in stats.blocks]
    # Of the third its rows, of all the biases of down.
    always = UNITS * (ROW + BIAS) + LAYERS * HIDDEN * BIAS
    assert stats.weight_bytes[Part.MLP] == (
        tokens * always + sum(chosen[:2]) * (ROW + BIAS) + (sum(further[:2]) + chosen[2]) * COLUMN
    )
    assert stats.weight_bytes[Part.PREDICTORS] == tokens * 2 * PREDICTOR
    assert stats.kv_bytes == manifest.kv_bytes_per_position * sum(range(6, len(IDS) + 1))


def test_neurons_read_further_are_those_that_are_not_zero(artifact_of: Make) -> None:
    def active(choice: Choice) -> list[float]:
        with rt.load(artifact_of((choice,) * LAYERS)) as model, model.session() as session:
            for token in IDS:
                session.decode(token)
            return [block.active for block in session.stats().blocks]

    found = active(EVERYTHING)
    assert found == active(NONZERO)
    assert all(0.1 < share < 0.9 for share in found)


def test_agreement_with_the_dense_model(artifact_of: Make, opt: Path) -> None:
    """Against the weights before they were rounded: a neuron near 0 may fall to either side."""
    windows = [Window(np.array(random_ids(20, seed=seed), np.int32), 2) for seed in range(2)]
    with rt.load(artifact_of((NONZERO,) * LAYERS)) as model:
        exact = agreement(model, opt, windows)
    with rt.load(artifact_of((EVERYTHING,) * LAYERS)) as model:
        everything = agreement(model, opt, windows)
    for found, whole in zip(exact, everything, strict=True):
        assert found.recall > 0.98 and found.precision > 0.98
        assert (whole.density, whole.recall) == (1.0, 1.0)
        assert whole.precision == pytest.approx(found.density, abs=0.02)
    with rt.load(artifact_of(())) as model:
        assert agreement(model, opt, windows) == []


def test_agreement_needs_the_same_model(artifact_of: Make, tmp_path: Path) -> None:
    other = make_model_dir("llama", tmp_path / "other")
    window = Window(np.array(IDS, np.int32), 2)
    with (
        rt.load(artifact_of((NONZERO,) * LAYERS)) as model,
        pytest.raises(
            SparsecompError, match=r"has no mlp model\.decoder\.layers\.0; give the model"
        ),
    ):
        agreement(model, other, [window])


def test_a_dense_program(artifact_of: Make) -> None:
    """Its bytes are the accounts' own; it times its kernels under their modules' names."""
    with rt.load(artifact_of(())) as model, model.session() as session:
        manifest = model.manifest
        assert manifest.blocks == () and manifest.trace_slots == 0
        assert manifest.bytes_per_token == manifest.dense_bytes_per_token
        assert manifest.bytes_per_token == manifest.fixed_bytes_per_token
        session.profile()
        for token in IDS:
            session.decode(token)
        stats, seconds = session.stats(), session.step_seconds()
    assert stats.weight_bytes == {
        part: size * len(IDS) for part, size in manifest.bytes_per_token.items()
    }
    mlps = [step for step in seconds if step.kernel == "mlp"]
    assert [step.module for step in mlps] == [f"model.decoder.layers.{n}" for n in range(LAYERS)]
    assert all(step.seconds > 0 for step in mlps)


def test_a_sparse_program_says_what_its_dense_one_reads(artifact_of: Make) -> None:
    with rt.Artifact.open(artifact_of(())) as dense:
        expected = dense.manifest.bytes_per_token
    with rt.Artifact.open(artifact_of((ABOVE, BEST, NONZERO))) as sparse:
        assert sparse.manifest.dense_bytes_per_token == expected
        assert sparse.manifest.bytes_per_token[Part.MLP] < expected[Part.MLP]
