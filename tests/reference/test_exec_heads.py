"""Attention over selected heads: fused and scheduled, it computes what the selection means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from imposed import Masked, impose
from xdsl.dialects.func import FuncOp

from sparsecomp.dialects import exec, spz
from sparsecomp.passes.forms import programs
from sparsecomp.reference.exec import Session
from sparsecomp.sparsity import LowRank

POSITIONS = 64
LAYERS = {
    "opt": "model.decoder.layers.{}.self_attn",
    "qwen3": "model.layers.{}.self_attn",
    "gemma2": "model.layers.{}.self_attn",
}
"""Plain heads with biases; grouped heads with norms and rotary embeddings; windows and a soft
cap."""
HIDDEN, HEADS = 32, 4
MAX_ERROR = 1e-5
"""Relative to the largest logit."""
PROMPT, LENGTH = 9, 15
IDS = torch.randint(3, 64, (LENGTH,), generator=torch.Generator().manual_seed(0)).tolist()
SELECTIONS: dict[str, float | Sequence[float]] = {
    "some": 0.0,
    "all": 1e3,
    "none": -1e3,
    "one": [1e3, -1e3, -1e3, -1e3],
}
"""Added to the scores of the heads."""
CHOICE = LowRank(rank=4, density=0.5, active=0.5)


def masked_model(family: str, selection: str, path: Path) -> Masked:
    choices = {LAYERS[family].format(layer): CHOICE for layer in (0, 1)}
    return Masked(path, impose(choices, HIDDEN, HEADS, SELECTIONS[selection]), POSITIONS)


@pytest.fixture(scope="module", params=[(f, s) for f in LAYERS for s in SELECTIONS], ids="-".join)
def masked(request: pytest.FixtureRequest, model_dir_of: Callable[[str], Path]) -> Masked:
    family, selection = request.param
    return masked_model(family, selection, model_dir_of(family))


def is_right(logits: torch.Tensor, masked: Masked) -> bool:
    expected = masked.logits(IDS, PROMPT)[1:]
    return bool((logits - expected).abs().max() <= MAX_ERROR * expected.abs().max())


def test_fused_it_is_the_same(masked: Masked) -> None:
    module = masked.fused()
    (decode,) = (f for f in module.ops if isinstance(f, FuncOp) and f.sym_name.data == "decode")
    sides = [op.side.data for op in decode.body.block.ops if isinstance(op, spz.SparseLinear)]
    assert sides == [spz.Side.OUTPUTS, spz.Side.INPUTS] * 2  # of two layers
    assert is_right(masked.logits(IDS, PROMPT, module)[1:], masked)


@pytest.mark.parametrize("workers", (1, 3))
def test_scheduled_it_is_the_same(masked: Masked, workers: int) -> None:
    module = masked.scheduled(workers)
    runs = []
    for reverse in (False, True):
        session = Session(module, masked.weights, positions=POSITIONS, reverse=reverse)
        session.prefill(torch.tensor(IDS[:PROMPT]), 0)
        rows = [session.decode(IDS[p], p) for p in range(PROMPT, LENGTH)]
        runs.append(torch.stack(rows))
    assert torch.equal(*runs)
    assert is_right(runs[0], masked)


def test_output_projections_lie_by_columns(model_dir_of: Callable[[str], Path]) -> None:
    """For both programs, once; all other matrices by rows."""
    module = masked_model("qwen3", "some", model_dir_of("qwen3")).scheduled(2)
    layouts = {
        symbol.string_value(): op.layout.data
        for op in module.ops
        if isinstance(op, exec.Storage)
        for symbol in op.of
    }
    columns = [name for name, layout in layouts.items() if layout is exec.Layout.COLUMNS]
    assert columns == [f"model.layers.{i}.self_attn.o_proj.weight" for i in (0, 1)]
    for program in programs(module):
        read = [
            exec.find_storage(op, op.weight).layout.data
            for op in program.body.block.ops
            if isinstance(op, exec.Linear | exec.SparseLinear)
        ]
        assert read.count(exec.Layout.COLUMNS) == 2
