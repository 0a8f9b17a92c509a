"""Attention over selected heads, in native code: what the selection means, and what it saves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from e2e_support import Logits, compiled, error, random_ids
from families import make_model_dir
from imposed import Masked, impose

import sparsecomp.runtime as rt
from sparsecomp.options import Dtype
from sparsecomp.sparsify import Sparsified
from sparsecomp.sparsity import LowRank

MAX_ERROR = {Dtype.F32: 1e-5, Dtype.BF16: 3e-2}
PROMPT, LENGTH = 70, 90
IDS = random_ids(LENGTH)
HIDDEN, HEADS, POSITIONS = 48, 6, 128
OF_SIX = {"hidden_size": HIDDEN, "num_attention_heads": HEADS, "max_position_embeddings": POSITIONS}
SHAPES = {
    "opt": OF_SIX | {"ffn_dim": 64},
    "qwen3": OF_SIX | {"num_key_value_heads": 2, "head_dim": 16},
}
LAYERS = {"opt": "model.decoder.layers.{}.self_attn", "qwen3": "model.layers.{}.self_attn"}


def heads_above(threshold: float, family: str) -> Sparsified:
    """In both layers."""
    choice = LowRank(rank=4, threshold=threshold, density=0.5, active=0.5)
    return impose({LAYERS[family].format(i): choice for i in (0, 1)}, HIDDEN, HEADS)


def logits(model: rt.Model) -> Logits:
    """Of the prompt's last token and of each after it."""
    with model.session() as session:
        first = session.prefill(IDS[:PROMPT]).copy()
        return np.stack([first, *(session.decode(token).copy() for token in IDS[PROMPT:])])


@pytest.mark.parametrize(
    ("family", "dtype", "workers"), [("qwen3", Dtype.F32, 3), ("opt", Dtype.BF16, 2)]
)
def test_logits_are_those_of_the_masked_reference(
    family: str, dtype: Dtype, workers: int, tmp_path: Path
) -> None:
    path = make_model_dir(family, tmp_path / "model", **SHAPES[family])
    sparse = heads_above(0.0, family)
    expected = Masked(path, sparse, POSITIONS, dtype).logits(IDS, PROMPT).numpy()
    dense = Masked(path, None, POSITIONS, dtype).logits(IDS, PROMPT).numpy()
    assert error(dense, expected) > 2 * MAX_ERROR[dtype]  # heads matter here
    options = {"dtype": dtype, "workers": workers, "sparse": sparse}
    with compiled(path, tmp_path / "sparse.spz", **options) as model:
        assert error(logits(model), expected) < MAX_ERROR[dtype]


def test_all_heads_are_the_dense_model(tmp_path: Path) -> None:
    """To rounding: by columns, the output projection adds its inputs up in another order."""
    path = make_model_dir("opt", tmp_path / "model", **SHAPES["opt"])
    everything = heads_above(-1e30, "opt")
    with (
        compiled(path, tmp_path / "sparse.spz", sparse=everything) as sparse,
        compiled(path, tmp_path / "dense.spz") as dense,
    ):
        assert error(logits(sparse), logits(dense)) < 2e-6
