"""A sketched head: what runs is what the reference says; full logits are the dense program's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from e2e_support import VNNI, compiled, error, random_ids
from families import make_model_dir
from imposed import Masked, impose

from sparsecomp.options import Dtype
from sparsecomp.reference.exec import Session
from sparsecomp.runtime.artifact import BlockKind, Part
from sparsecomp.sketches import refined_row_bytes
from sparsecomp.sparsity import Cascade, Sketch

POSITIONS, PROMPT, LENGTH = 64, 5, 12
VOCAB, HIDDEN, COUNT = 64, 352, 12
"""Axes enough for two groups of 2 bits, the last of which is short."""
IDS = random_ids(LENGTH)
BEST = [20.0 * (row % 5 == 1 and row < 60) + 10.0 * (row % 5 == 2) for row in range(VOCAB)]
"""Added to scores: no rounding decides what is chosen."""
GOOD = 25
"""Rows to which something is added."""
HEADS = {
    "best": Sketch(count=COUNT, density=COUNT / VOCAB, offset=0.25),
    "probable": Sketch(count=3, probability=1e-3, density=COUNT / VOCAB, offset=0.25),
    "in steps": Cascade(
        count=3,
        probability=1e-3,
        density=COUNT / VOCAB,
        offset=0.25,
        first_count=5,
        first_probability=1e-8,
        first_density=GOOD / VOCAB,
        first_offset=-0.5,
    ),
}
LINES = {"best": 0, "probable": 0, "in steps": GOOD * refined_row_bytes(HIDDEN)}
"""Bytes that are read to score rows once more."""
SHAPE = {"hidden_size": HIDDEN, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPES = {"llama": SHAPE | {"head_dim": 16}, "gemma2": SHAPE | {"head_dim": 16}}
MAX_ERROR = 5e-3
"""Of the largest logit: what lies between two codes of 8 bits may fall to either."""


@pytest.mark.parametrize(
    ("family", "dtype", "workers", "head"),
    [
        ("llama", Dtype.INT8, 3, "best"),
        ("gemma2", Dtype.F32, 2, "probable"),  # caps its logits
        ("llama", Dtype.INT8, 2, "in steps"),
    ],
)
def test_decode(family: str, dtype: Dtype, workers: int, head: str, tmp_path: Path) -> None:
    sketch = impose({"lm_head": HEADS[head]}, HIDDEN, VOCAB, BEST)
    path = make_model_dir(family, tmp_path / "model", **SHAPES[family])
    masked = Masked(path, sketch, POSITIONS, dtype)
    reference = Session(
        masked.scheduled(workers),
        masked.weights,
        positions=POSITIONS,
        reverse=True,
        integers=VNNI,
    )
    options = {"dtype": dtype, "workers": workers}
    with (
        compiled(path, tmp_path / "a.spz", **options, sparse=sketch) as model,
        compiled(path, tmp_path / "dense.spz", **options) as dense,
        model.session() as session,
        dense.session() as plain,
    ):
        (block,) = model.manifest.blocks
        assert (block.module, block.kind, block.units) == ("lm_head", BlockKind.HEAD, VOCAB)
        assert model.manifest.exact_logits == HEADS[head].count
        assert dense.manifest.exact_logits == VOCAB
        reference.prefill(torch.tensor(IDS[:PROMPT]), 0)
        np.testing.assert_array_equal(session.prefill(IDS[:PROMPT]), plain.prefill(IDS[:PROMPT]))
        session.trace()
        for position in range(PROMPT, LENGTH):
            token = IDS[position]
            exact = plain.decode(token)
            full = session.decode(token, full_logits=True)
            np.testing.assert_array_equal(full, exact)
            session.rewind(position)
            logits = session.decode(token)
            assert error(logits, reference.decode(token, position).numpy()) < MAX_ERROR
            (chosen,) = session.chosen()
            assert chosen.tolist() == np.flatnonzero(np.array(BEST) == 20).tolist()
            np.testing.assert_array_equal(logits[chosen], exact[chosen])
            others = np.setdiff1d(np.arange(VOCAB), chosen)
            assert np.abs(logits[others] - exact[others]).max() > 0.01
        steps = LENGTH - PROMPT
        read = session.stats().weight_bytes[Part.HEAD]
        assert read == steps * ((COUNT + VOCAB) * block.chosen_bytes + 2 * LINES[head])
        expected = COUNT * block.chosen_bytes + LINES[head]
        assert model.manifest.bytes_per_token[Part.HEAD] == expected
        assert block.chosen_bytes * VOCAB == dense.manifest.bytes_per_token[Part.HEAD]
        assert model.manifest.bytes_per_token[Part.PREDICTORS] == block.predictor_bytes > 0
