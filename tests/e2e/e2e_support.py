"""Compiles a model directory, and says how far its artifact is from transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM

import sparsecomp.runtime as rt
from sparsecomp.compile import compile_model
from sparsecomp.options import CompileOptions, Dtype, Target
from sparsecomp.runtime.cpu import this_cpu
from sparsecomp.sparsify import Sparsified

Logits = npt.NDArray[np.float32]
VNNI = "avx512_vnni" in this_cpu().flags
"""Whether native programs multiply prompts in integers."""


def compile_dir(
    model_dir: Path,
    output: Path,
    *,
    dtype: Dtype = Dtype.F32,
    workers: int = 2,
    context: int | None = None,
    targets: tuple[Target, ...] = (Target.NATIVE,),
    sparse: Sparsified | None = None,
) -> Path:
    """Compile `model_dir` into `output`; returns `output`."""
    compile_model(
        CompileOptions(
            model_dir=model_dir,
            output=output,
            dtype=dtype,
            workers=workers,
            context=context,
            targets=targets,
        ),
        sparse=sparse,
    )
    return output


@contextmanager
def compiled(model_dir: Path, output: Path, **options: object) -> Iterator[rt.Model]:
    """The loaded artifact of a model directory. `options` are those of `compile_dir`."""
    with rt.load(compile_dir(model_dir, output, **options)) as model:  # type: ignore[arg-type]
        yield model


class Reference:
    """transformers in float32 with eager attention. `weights` is the type that the weights are
    rounded to first."""

    def __init__(self, model_dir: Path, weights: torch.dtype = torch.float32):
        self.model = AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(parameter.to(weights).float())

    def logits(self, ids: list[int]) -> Logits:
        """(n, vocab)."""
        with torch.no_grad():
            return self.model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


def reference_logits(
    model_dir: Path, ids: list[int], *, weights: torch.dtype = torch.float32
) -> Logits:
    """What `Reference` says of one text, (n, vocab)."""
    return Reference(model_dir, weights).logits(ids)


def random_ids(count: int, vocab: int = 64, seed: int = 0) -> list[int]:
    """Token ids beyond the special ones."""
    return np.random.default_rng(seed).integers(3, vocab, count).tolist()


def error(actual: Logits, expected: Logits) -> float:
    """The largest difference, relative to the largest logit of all that are expected."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def worst_prefill(model: rt.Model, ids: list[int], expected: Logits, lengths: list[int]) -> float:
    """The largest error after prefills of each of `lengths` tokens."""
    with model.session() as session:
        worst = 0.0
        for length in lengths:
            session.rewind(0)
            worst = max(worst, error(session.prefill(ids[:length]), expected[length - 1]))
        return worst


def worst_decode(model: rt.Model, ids: list[int], expected: Logits, start: int) -> float:
    """The largest error after each token from `start` on, decoded one by one after a prefill in
    two calls."""
    with model.session() as session:
        half = start // 2
        worst = error(session.prefill(ids[:half]), expected[half - 1])
        worst = max(worst, error(session.prefill(ids[half:start]), expected[start - 1]))
        for position in range(start, len(ids)):
            worst = max(worst, error(session.decode(ids[position]), expected[position]))
        return worst
