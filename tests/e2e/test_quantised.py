"""Artifacts with weights in 8 and 4 bits: what runs is what the reference says, and how large."""

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
from sparsecomp.codegen.account import bytes_per_token
from sparsecomp.options import Dtype
from sparsecomp.reference.exec import Session
from sparsecomp.runtime.artifact import Part
from sparsecomp.sparsity import Approximate, Choice, Cutoff, Exact, LowRank, Narrow

POSITIONS, PROMPT, LENGTH = 64, 9, 16
IDS = random_ids(LENGTH)
HIDDEN, UNITS, VOCAB = 96, 130, 64
SHAPES = {
    "llama": {"hidden_size": HIDDEN, "intermediate_size": UNITS},
    "opt": {"hidden_size": HIDDEN, "ffn_dim": UNITS, "word_embed_proj_dim": HIDDEN},
    "gemma2": {"hidden_size": HIDDEN, "intermediate_size": UNITS},
}
FLOAT = 4
MAX_ERROR = 1e-3
"""Of the largest logit: a key or value halfway between two bf16 numbers may fall to either."""


def logits(model: rt.Model) -> Logits:
    """Of the prompt's last token and of each after it."""
    with model.session() as session:
        first = session.prefill(IDS[:PROMPT]).copy()
        return np.stack([first, *(session.decode(token).copy() for token in IDS[PROMPT:])])


def reference(model: Masked, workers: int) -> Logits:
    session = Session(model.scheduled(workers), model.weights, positions=POSITIONS, integers=VNNI)
    rows = [session.prefill(torch.tensor(IDS[:PROMPT]), 0)]
    rows += [session.decode(IDS[p], p) for p in range(PROMPT, LENGTH)]
    return torch.stack(rows).numpy()


@pytest.mark.parametrize(
    ("family", "dtype", "workers"),
    [("llama", Dtype.INT8, 3), ("opt", Dtype.INT8, 2), ("gemma2", Dtype.INT4, 1)],
)
def test_the_artifact_computes_what_the_reference_does(
    family: str, dtype: Dtype, workers: int, tmp_path: Path
) -> None:
    path = make_model_dir(family, tmp_path / "model", **SHAPES[family])
    expected = reference(Masked(path, None, POSITIONS, dtype), workers)
    options = {"dtype": dtype, "workers": workers}
    with compiled(path, tmp_path / "a.spz", **options) as model:
        assert error(logits(model), expected) < MAX_ERROR
    exact = reference(Masked(path, None, POSITIONS, Dtype.F32), workers)
    assert error(exact, expected) > 2 * MAX_ERROR  # it is another model


OPT, ATTENTION = "model.decoder.layers.{}", "model.decoder.layers.{}.self_attn"
LISTED = LowRank(rank=64, density=0.5, active=0.25)
IMITATED = Approximate(rank=64, threshold=0.5, density=0.5, active=0.25)


@pytest.mark.parametrize(
    "choices",
    [
        {
            OPT.format(0): LISTED,
            OPT.format(1): Cutoff(of=Exact.NEURON, threshold=0.0, density=0.5),
            OPT.format(2): IMITATED,
        },
        {ATTENTION.format(0): LowRank(rank=64, density=0.5, active=0.5)},
    ],
    ids=["neurons", "heads"],
)
def test_sparse_blocks_over_quantised_weights(choices: dict[str, Choice], tmp_path: Path) -> None:
    path = make_model_dir("opt", tmp_path / "model", **SHAPES["opt"], num_hidden_layers=3)
    units = 4 if any("self_attn" in name for name in choices) else UNITS
    sparse = impose(choices, HIDDEN, units)
    expected = reference(Masked(path, sparse, POSITIONS, Dtype.INT8), 2)
    with compiled(path, tmp_path / "a.spz", dtype=Dtype.INT8, workers=2, sparse=sparse) as model:
        assert error(logits(model), expected) < 5 * MAX_ERROR
        for block in model.manifest.blocks:
            if choices[block.module] is IMITATED:
                factors = nibbles.row_bytes(IMITATED.rank, 4) + 2 * FLOAT  # bias, norm of down
                basis = IMITATED.rank * nibbles.row_bytes(HIDDEN, 8)
                assert block.predictor_bytes == pytest.approx(basis + UNITS * factors, abs=192)


LAYER = "model.layers.{}"
NARROW: dict[str, Choice] = {
    f"{LAYER.format(0)}.mlp": Narrow(bits=6, output_bits=6),
    f"{LAYER.format(0)}.self_attn": Narrow(bits=4, output_bits=5, key_value_bits=6),
    f"{LAYER.format(1)}.mlp": Narrow(bits=8, output_bits=5),
}


def test_blocks_in_fewer_bits(tmp_path: Path) -> None:
    path = make_model_dir("llama", tmp_path / "model", **SHAPES["llama"], num_hidden_layers=2)
    sparse = impose(NARROW, HIDDEN, UNITS, model=path)
    expected = reference(Masked(path, sparse, POSITIONS, Dtype.INT8), 3)
    with compiled(path, tmp_path / "a.spz", dtype=Dtype.INT8, workers=3, sparse=sparse) as model:
        assert error(logits(model), expected) < MAX_ERROR
        read, blocks = model.manifest.bytes_per_token, model.manifest.blocks
    assert blocks == ()  # nothing is chosen
    dense = Masked(path, None, POSITIONS, Dtype.INT8)
    assert error(reference(dense, 3), expected) > 2 * MAX_ERROR
    whole = bytes_per_token(dense.scheduled(3))
    assert whole[Part.MLP] - read[Part.MLP] == (
        2 * UNITS * saved(HIDDEN, 6) + HIDDEN * (saved(UNITS, 6) + saved(UNITS, 5))
    )
    # Keys and values have half as many rows as queries, each.
    assert whole[Part.ATTENTION] - read[Part.ATTENTION] == HIDDEN * (
        saved(HIDDEN, 4) + saved(HIDDEN, 6) + saved(HIDDEN, 5)
    )


def saved(width: int, bits: int) -> int:
    """Bytes of a row in so many bits instead of 8."""
    return nibbles.row_bytes(width, 8) - nibbles.row_bytes(width, bits)


def test_bytes_are_counted_with_scales_and_planes(tmp_path: Path) -> None:
    path = make_model_dir("llama", tmp_path / "model", **SHAPES["llama"], num_hidden_layers=1)
    for dtype, bits in ((Dtype.INT8, 8), (Dtype.INT4, 4)):
        artifact = compile_dir(path, tmp_path / "a.spz", dtype=dtype)
        with rt.Artifact.open(artifact) as opened:
            manifest = opened.manifest
        row = nibbles.row_bytes(HIDDEN, bits)
        mlp = 2 * UNITS * row + HIDDEN * nibbles.row_bytes(UNITS, bits)
        assert manifest.bytes_per_token[Part.MLP] == pytest.approx(mlp, abs=192)  # whole lines
        assert manifest.bytes_per_token[Part.HEAD] == pytest.approx(VOCAB * row, abs=128)
        assert manifest.bytes_per_token[Part.EMBED] == row
        assert str(manifest.model.dtype) == dtype
