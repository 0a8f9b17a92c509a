"""Split artifacts in native code, with threads for ranks: what they compute and refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from thread_ranks import ThreadRanks, on_ranks, on_shards

import sparsecomp.runtime as rt
from sparsecomp.errors import SparsecompError

IDS = np.random.default_rng(0).integers(3, 320, 40).tolist()
PROMPT = 30
MAX_ERROR = 1e-5
"""Relative to the largest logit: sums are made in another order."""

ArtifactOf = Callable[[int], Path]


def logits(model: rt.Model) -> npt.NDArray[np.float32]:
    """Of a rank's tokens: after a prompt in two calls, and after each token behind it."""
    with model.session() as session:
        session.prefill(IDS[:7])
        rows = [session.prefill(IDS[7:PROMPT])]
        rows += [session.decode(token) for token in IDS[PROMPT:]]
        return np.stack(rows)


def test_all_ranks_together_are_the_model(artifact_of: ArtifactOf) -> None:
    with rt.load(artifact_of(1)) as model:
        expected = logits(model)
    actual = np.concatenate(on_shards(artifact_of(2), logits), axis=1)
    assert np.abs(actual - expected).max() < MAX_ERROR * np.abs(expected).max()


def test_the_same_text_on_every_rank(artifact_of: ArtifactOf) -> None:
    params = rt.SamplingParams(max_new_tokens=20, temperature=0.9, top_k=20, seed=3)
    with rt.load(artifact_of(1)) as model:
        expected = model.generate("hello", params)
    assert on_shards(artifact_of(2), lambda m: m.generate("hello", params)) == [expected] * 2


def test_what_ranks_have_of_a_model(artifact_of: ArtifactOf) -> None:
    """Of one group of heads, 48 neurons and 320 tokens; rows are of 48 floats."""
    with rt.Artifact.open(artifact_of(2)) as artifact:
        manifest = artifact.manifest
        parts = [manifest.of_rank(rank) for rank in range(2)]
        names = set(artifact.tensors)
    assert [(s.first_token, s.logits) for s in manifest.shards] == [(0, 160), (160, 160)]
    assert [p.kv_bytes_per_position for p in parts] == [2 * 2 * 8 * 4, 0]
    part = rt.artifact.Part
    assert [p.bytes_per_token[part.MLP] for p in parts] == [2 * 24 * 3 * 192] * 2
    assert [p.bytes_per_token[part.HEAD] for p in parts] == [160 * 48 * 4] * 2
    assert [[p.member for p in of.programs] for of in parts] == [
        ["native/native.so"],
        ["native/native.r1.so"],
    ]
    # What is not split is there once.
    assert sum("embed_tokens" in name for name in names) == 1
    assert {f"model.layers.0.mlp.neurons.r{rank}" for rank in range(2)} <= names
    assert manifest.model.vocab_size == 320


def test_it_refuses_to_run_alone(artifact_of: ArtifactOf) -> None:
    path = artifact_of(2)
    with pytest.raises(SparsecompError) as caught:
        rt.load(path)
    assert str(caught.value) == (
        f"{path}: is split over 2 ranks, which run together: "
        f"torchrun --nproc-per-node 2 -m sparsecomp.distributed {path} -p ..."
    )


def test_it_refuses_other_ranks(artifact_of: ArtifactOf) -> None:
    def run(ranks: ThreadRanks) -> str:
        with pytest.raises(SparsecompError) as caught:
            rt.load(artifact_of(2 if ranks.size == 3 else 1), ranks=ranks)
        return str(caught.value)

    assert "is split over 2 ranks, 3 started: torchrun" in on_ranks(3, run)[0]
    assert "is not split over ranks; run it with sparsecomp run" in on_ranks(2, run)[1]


def test_what_an_exchange_raises_comes_out(artifact_of: ArtifactOf) -> None:
    """After the step, of which native code has run the rest; the session can be closed."""

    def run(model: rt.Model) -> int:
        calls = 0

        def fail(values: npt.NDArray[np.float32]) -> None:
            nonlocal calls
            calls += 1
            raise SparsecompError("the line is cut")

        model.ranks.add_up = fail  # type: ignore[union-attr, method-assign]
        with model.session() as session, pytest.raises(SparsecompError, match="the line is cut"):
            session.prefill(IDS)
        return calls

    assert on_shards(artifact_of(2), run) == [1, 1]


def test_a_program_without_an_exchange_runs_nothing(artifact_of: ArtifactOf) -> None:
    def run(model: rt.Model) -> None:
        with model.session() as session:
            model._program._exchange(session._handle, None, None)
            with pytest.raises(RuntimeError, match="failed with code 1"):
                session.decode(3)
            with pytest.raises(RuntimeError, match="failed with code 1"):
                session.prefill([3])

    on_shards(artifact_of(2), run)
