"""Choices made by hand, with random predictors, in place of those that calibration finds."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from xdsl.dialects.builtin import ModuleOp

from sparsecomp.calibrate.approximation import Approximation, Inputs
from sparsecomp.calibrate.low_rank import Predictor
from sparsecomp.calibrate.sketch import HeadSketch
from sparsecomp.codegen.triton import select
from sparsecomp.dialects import spz
from sparsecomp.frontend.export import export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.options import Device, Dtype
from sparsecomp.passes.base import PassContext, Weights
from sparsecomp.passes.narrow import rounded_name
from sparsecomp.passes.pipeline import CUDA_LOWERING, LOWERING, RAISING, Step, run_pipeline
from sparsecomp.reference.evaluate import evaluate
from sparsecomp.reference.interpreter import Interpreter
from sparsecomp.reference.spz import KVCache
from sparsecomp.rounding import round_to
from sparsecomp.sparsify import Sparsified
from sparsecomp.sparsity import FEWER_BITS, Choice, Narrow, Option, Plan

_NAMES = [step.run.name for step in LOWERING]
_FUSE, _LAY_OUT = _NAMES.index("fuse-sparse-mlp"), _NAMES.index("choose-layouts")


@dataclass(frozen=True)
class _Random:
    """Random weights for blocks of `units`, the same for a module each time. `bias` is added to the
    scores; `parts` is 2 where MLPs have a gate. Weights of narrow blocks are those of the model,
    rounded to the nearest."""

    inputs: int
    units: int
    bias: Sequence[float] | float
    parts: int
    model: Path | None

    def predictor(self, module: str, rank: int) -> Predictor:
        generator = _generator(module)
        down = 0.3 * torch.randn(rank, self.inputs, generator=generator)
        up = 0.3 * torch.randn(self.units, rank, generator=generator)
        return Predictor(down, up, self._biases())

    def approximation(self, module: str, rank: int) -> Approximation:
        generator = _generator(module)
        basis, gate, up = (
            0.3 * torch.randn(n, width, generator=generator)
            for n, width in ((rank, self.inputs), (self.units, rank), (self.units, rank))
        )
        gates = gate if self.parts == 2 else None
        of = Inputs(spz.Act.RELU, gates, up, None, None, torch.ones(self.units))
        return Approximation(of, basis, gates, up, self._biases(), bits=32)

    def correction(self, module: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = _generator(module)
        basis = torch.randn(rank, self.inputs, generator=generator)
        factors = torch.randn(self.units * self.parts, rank, generator=generator)
        return 0.1 * basis, 0.1 * factors

    def narrow(self, module: str, choice: Narrow) -> Mapping[str, torch.Tensor]:
        assert self.model is not None
        return {
            rounded_name(name, bits): round_to(weight, bits)
            for name, weight in load_file(self.model / "model.safetensors").items()
            for bits in {choice.bits, choice.bits_of_keys, choice.output_bits} & set(FEWER_BITS)
            if name.startswith(module) and weight.dim() == 2
        }

    def sketch(self, module: str) -> HeadSketch:
        generator = _generator(module)
        axes, rows = (
            torch.randn(n, self.inputs, generator=generator) / self.inputs**0.5
            for n in (self.inputs + 1, self.units)
        )
        return HeadSketch(axes, axes.sum(1), rows, self._biases())

    def _biases(self) -> torch.Tensor:
        return torch.tensor(self.bias).expand(self.units).contiguous()


def _generator(module: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(module.encode()))


def impose(
    choices: Mapping[str, Choice],
    inputs: int,
    units: int,
    bias: Sequence[float] | float = 0.0,
    parts: int = 1,
    model: Path | None = None,
) -> Sparsified:
    """These choices, with random weights for what they need (see `_Random`)."""
    plan = Plan({name: (Option(choice, 0.0),) for name, choice in choices.items()}, forced=True)
    return Sparsified(plan, _Random(inputs, units, bias, parts, model))


class Masked:
    """A model whose decode step keeps what is imposed, before that is made faster (None: dense).

    With bf16 the matrices are rounded as an artifact stores them. In 8 or 4 bits the scheduled
    program says how each of them is.
    """

    def __init__(
        self, path: Path, sparse: Sparsified | None, positions: int, dtype: Dtype = Dtype.F32
    ):
        module, given = _raised(path, positions)
        self.plan = None if sparse is None else sparse.plan
        predictors = {} if sparse is None else sparse.weights(_only(sparse.plan))
        stored = torch.bfloat16 if dtype is Dtype.BF16 else torch.float32

        def weights(name: str) -> torch.Tensor:
            value = predictors[name] if name in predictors else given(name)
            return value.to(stored).float() if value.dim() > 1 else value

        self.weights = cache(weights)
        self.positions = positions
        self.dtype = dtype
        self.module = self._lowered(module, LOWERING[:_FUSE])

    def fused(self) -> ModuleOp:
        """The module in which what is left out is not read."""
        return self._lowered(self.module, LOWERING[_FUSE:_LAY_OUT])

    def scheduled(self, workers: int) -> ModuleOp:
        return self._lowered(self.fused(), LOWERING[_LAY_OUT:], workers)

    def for_gpu(self) -> ModuleOp:
        steps = CUDA_LOWERING[_LAY_OUT:]
        return self._lowered(self.fused(), steps, device=Device.CUDA, parts=select.parts)

    def logits(
        self, ids: Sequence[int], prompt: int, module: ModuleOp | None = None
    ) -> torch.Tensor:
        """The reference's, (len(ids) - prompt + 1, vocab): of the prompt's last token and of each
        after it."""
        interpreter = Interpreter(module or self.module, self.weights, self.positions)
        tokens, positions, kv = torch.tensor(ids), torch.arange(len(ids)), KVCache()
        rows = [*interpreter.run("prefill", tokens[:prompt], positions[:prompt], kv)]
        for p in range(prompt, len(ids)):
            rows += interpreter.run("decode", tokens[p : p + 1], positions[p : p + 1], kv)
        return torch.cat(rows)

    def _lowered(
        self, module: ModuleOp, steps: Sequence[Step], workers: int = 1, **given: Any
    ) -> ModuleOp:
        module = module.clone()
        ctx = PassContext(
            evaluate=evaluate,
            weights=self.weights,
            positions=self.positions,
            workers=workers,
            dtype=self.dtype,
            plan=self.plan,
            **given,
        )
        run_pipeline(module, ctx, steps=steps)
        return module


@cache
def _raised(path: Path, positions: int) -> tuple[ModuleOp, Weights]:
    exported = export_model(ModelDir.open(path))
    weights = cache(exported.weights.get)
    ctx = PassContext(evaluate=evaluate, weights=weights, positions=positions)
    run_pipeline(exported.module, ctx, steps=RAISING)
    return exported.module, weights


def _only(plan: Plan) -> dict[str, Choice | None]:
    return {name: option.choice for name, (option,) in plan.options.items()}
