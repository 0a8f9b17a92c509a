"""MLPs sorted by their weights' high planes: what runs is what the reference says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from e2e_support import VNNI, Logits, compile_dir, compiled, error, random_ids
from families import make_model_dir
from imposed import Masked, impose

import sparsecomp.runtime as rt
from sparsecomp import nibbles
from sparsecomp.errors import SparsecompError
from sparsecomp.options import Dtype
from sparsecomp.reference.exec import Session
from sparsecomp.runtime.artifact import Part
from sparsecomp.sparsify import Sparsified
from sparsecomp.sparsity import Choice, Cutoff, Exact, Nested

POSITIONS, PROMPT, LENGTH = 64, 9, 16
IDS = random_ids(LENGTH)
HIDDEN, UNITS = 96, 130
MODELS = {
    "gated": ("llama", {"hidden_size": HIDDEN, "intermediate_size": UNITS}, "model.layers.{}.mlp"),
    "relu": (
        "opt",
        {"hidden_size": HIDDEN, "ffn_dim": UNITS, "word_embed_proj_dim": HIDDEN},
        "model.decoder.layers.{}",
    ),
}
MAX_ERROR = 1e-2
"""Of the largest logit: a key halfway between two bf16 numbers may fall to either side. So may, of
one token, the score of a neuron beside a threshold, which is more."""

SORTED = Nested(threshold=0.5, floor=0.1, density=0.3, coarse=0.4)
CORRECTED = Nested(threshold=0.5, floor=0.1, density=0.3, coarse=0.4, rank=48)
ALL = Cutoff(of=Exact.NEURON, threshold=0.0, density=1.0)
ALL_FINE = Nested(threshold=0.0, floor=0.0, density=1.0, coarse=0.0)
ALL_COARSE = Nested(threshold=1e30, floor=0.0, density=0.0, coarse=1.0)


def imposed(name: str, *choices: Choice) -> Sparsified:
    layers = MODELS[name][2]
    named = {layers.format(i): choice for i, choice in enumerate(choices)}
    return impose(named, HIDDEN, UNITS, parts=2 if name == "gated" else 1)


def decoded(session: rt.Session) -> Logits:
    """Of each token after the prompt."""
    session.prefill(IDS[:PROMPT])
    return np.stack([session.decode(token).copy() for token in IDS[PROMPT:]])


def reference(path: Path, sparse: Sparsified | None, workers: int) -> Logits:
    masked = Masked(path, sparse, POSITIONS, Dtype.INT8)
    session = Session(masked.scheduled(workers), masked.weights, positions=POSITIONS, integers=VNNI)
    session.prefill(torch.tensor(IDS[:PROMPT]), 0)
    return torch.stack([session.decode(IDS[p], p) for p in range(PROMPT, LENGTH)]).numpy()


@pytest.mark.parametrize(("name", "workers"), [("gated", 3), ("relu", 1)])
def test_the_artifact_computes_what_the_reference_does(
    name: str, workers: int, tmp_path: Path
) -> None:
    family, overrides, _ = MODELS[name]
    path = make_model_dir(family, tmp_path / "model", **overrides)
    sparse = imposed(name, SORTED, CORRECTED)
    expected = reference(path, sparse, workers)
    options = {"dtype": Dtype.INT8, "workers": workers, "sparse": sparse}
    with compiled(path, tmp_path / "a.spz", **options) as loaded, loaded.session() as session:
        *most, _ = sorted(map(error, decoded(session), expected))
        assert most[-1] < MAX_ERROR
        check_bytes(loaded, session.stats(), 2 if name == "gated" else 1)
    assert error(reference(path, None, workers), expected) > 5 * MAX_ERROR


def check_bytes(loaded: rt.Model, stats: rt.Stats, parts: int) -> None:
    """Every neuron's high planes, then what the two lists read of it."""
    low = parts * nibbles.low_bytes(HIDDEN, 8) + nibbles.row_bytes(HIDDEN, 8)
    listed = 0.0
    for block in stats.blocks:
        assert 0.02 < block.density < 0.98 and 0.02 < block.coarse < 0.98
        listed += UNITS * (block.active * low + block.coarse * nibbles.high_bytes(HIDDEN))
    fixed = loaded.manifest.fixed_bytes_per_token[Part.MLP]
    if parts == 2:  # what a first product of 0 ends is read in part
        assert stats.weight_bytes[Part.MLP] / stats.decoded == pytest.approx(fixed + listed)
    high = parts * UNITS * nibbles.high_bytes(HIDDEN)
    factors = parts * UNITS * nibbles.row_bytes(CORRECTED.rank, 4)
    assert fixed == pytest.approx(2 * high + factors, rel=0.2)  # biases, norms of down


def test_all_fine_is_whole_and_all_coarse_is_not(tmp_path: Path) -> None:
    family, overrides, _ = MODELS["gated"]
    path = make_model_dir(family, tmp_path / "model", **overrides)
    whole = reference(path, imposed("gated", ALL, ALL), 2)
    assert error(reference(path, imposed("gated", ALL_FINE, ALL_FINE), 2), whole) < 1e-3
    assert error(reference(path, imposed("gated", ALL_COARSE, ALL_COARSE), 2), whole) > 1e-2


def test_weights_without_high_planes_are_refused(tmp_path: Path) -> None:
    family, overrides, _ = MODELS["gated"]
    path = make_model_dir(family, tmp_path / "model", **overrides)
    sparse = imposed("gated", SORTED)
    with pytest.raises(
        SparsecompError, match=r"layers\.0\.mlp: nested needs its weights in 8 bits"
    ):
        compile_dir(path, tmp_path / "a.spz", dtype=Dtype.BF16, sparse=sparse)
