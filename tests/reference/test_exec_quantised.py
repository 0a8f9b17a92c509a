"""Programs over quantised weights: what they multiply is what the storages keep."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import make_model_dir
from hypothesis import given
from hypothesis import strategies as st
from imposed import Masked
from xdsl.dialects.builtin import MemRefType, f32

from sparsecomp import nibbles
from sparsecomp.dialects import exec
from sparsecomp.options import Dtype
from sparsecomp.passes.base import PassContext
from sparsecomp.passes.pipeline import LOWERING, run_pipeline
from sparsecomp.reference import kernels
from sparsecomp.reference.evaluate import evaluate
from sparsecomp.reference.exec import Session, Stored
from sparsecomp.reference.interpreter import Interpreter
from sparsecomp.reference.spz import KVCache

POSITIONS = 64
PROMPT = 5
IDS = torch.randint(3, 64, (9,), generator=torch.Generator().manual_seed(0)).tolist()
WIDE = {
    "llama": {"hidden_size": 96, "intermediate_size": 130},
    "opt": {"hidden_size": 96, "ffn_dim": 130, "word_embed_proj_dim": 96},
}


@pytest.mark.parametrize("dtype", [Dtype.INT8, Dtype.INT4])
@pytest.mark.parametrize("family", WIDE)
def test_the_program_uses_the_stored_weights(
    family: str, dtype: Dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With factors that are not rounded, and the cache as it is, it is exact."""
    model = Masked(make_model_dir(family, tmp_path / "m", **WIDE[family]), None, POSITIONS)
    module = model.module.clone()
    context = PassContext(
        evaluate=evaluate, weights=model.weights, positions=POSITIONS, workers=2, dtype=dtype
    )
    names = [step.run.name for step in LOWERING]
    run_pipeline(module, context, steps=LOWERING[names.index("quantize-weights") :])

    stored = Stored(module, model.weights, POSITIONS)
    storages = [op for op in module.ops if isinstance(op, exec.Storage)]
    quantised = {
        symbol.string_value(): value
        for op in storages
        if op.quantised
        for symbol, value in zip(op.of, stored.get(op), strict=True)
    }
    assert len(quantised) > 10

    def weights(name: str) -> torch.Tensor:
        return quantised.get(name, model.weights(name))

    interpreter, cache = Interpreter(model.module, weights, POSITIONS), KVCache()
    tokens, positions = torch.tensor(IDS), torch.arange(len(IDS))
    interpreter.run("prefill", tokens[:PROMPT], positions[:PROMPT], cache)
    expected = torch.cat(
        [
            interpreter.run("decode", tokens[p : p + 1], positions[p : p + 1], cache)[0]
            for p in range(PROMPT, len(IDS))
        ]
    )

    def logits() -> torch.Tensor:
        session = Session(module, model.weights, positions=POSITIONS)
        session.prefill(tokens[:PROMPT], 0)
        return torch.stack([session.decode(IDS[p], p) for p in range(PROMPT, len(IDS))])

    rounded = logits()
    monkeypatch.setitem(kernels.KERNELS, exec.Quantize, _copy)
    monkeypatch.setattr(exec, "cache_item", lambda module: 4)
    exact = logits()
    largest = expected.abs().max()
    assert (exact - expected).abs().max() <= 1e-5 * largest
    assert (rounded - expected).abs().max() < 1e-2 * largest


def _copy(w: object, op: exec.Quantize) -> None:
    x, out = w.tensor(op.x), w.tensor(op.out)  # type: ignore[attr-defined]
    out[..., : x.shape[-1]] = x


@given(width=st.integers(1, 200), seed=st.integers(0, 99))
def test_factors_are_rounded_by_group(width: int, seed: int) -> None:
    x = torch.randn(1, width, generator=torch.Generator().manual_seed(seed))
    out = torch.full((1, -(-width // 64) * 64), torch.nan)

    class Worker:
        def tensor(self, value: object) -> torch.Tensor:
            return x if value is op.x else out

    given = [exec.Buffer.create(result_types=[MemRefType(f32, [1, n])]) for n in (width, 64)]
    op = exec.Quantize.create(operands=[buffer.result for buffer in given])
    kernels.quantize(Worker(), op)  # type: ignore[arg-type]
    assert (out[:, width:] == 0).all()
    for start in range(0, width, nibbles.GROUP):
        group, kept = (
            x[0, start : start + nibbles.GROUP],
            out[0, start : min(start + nibbles.GROUP, width)],
        )
        step = group.abs().max() / nibbles.FACTOR_STEPS
        assert ((kept - group).abs() <= 0.502 * step).all()
        assert torch.allclose(kept / step, (kept / step).round(), atol=2e-2)
