"""Tiny models of the families on their way through the passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from sparsecomp.frontend.export import export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.passes.base import PassContext, Weights
from sparsecomp.passes.pipeline import PIPELINE, Step, run_pass
from sparsecomp.reference.evaluate import evaluate

POSITIONS = 64

TO_DECODE: tuple[Step, ...] = PIPELINE[
    : 1 + [step.run.name for step in PIPELINE].index("derive-decode")
]
"""The passes up to the two functions of a model: all that the reference can run."""


@dataclass(frozen=True)
class Tiny:
    """A model's module, changed by `run`, and its weights."""

    module: ModuleOp
    weights: Weights

    def run(self, after: Callable[[str], None] = lambda name: None) -> None:
        """Every pass up to derive-decode; `after` is called with its name after each."""
        ctx = PassContext(evaluate=evaluate, weights=self.weights, positions=POSITIONS)
        for step in TO_DECODE:
            run_pass(step.run, self.module, ctx)
            after(step.run.name)

    def function(self, name: str) -> FuncOp:
        functions = (op for op in self.module.ops if isinstance(op, FuncOp))
        return next(f for f in functions if f.sym_name.data == name)

    def count(self, op: str, function: str = "decode") -> int:
        """How many ops of a name the function has."""
        return sum(o.name == op for o in self.function(function).body.block.ops)


def load(path: Path) -> Tiny:
    exported = export_model(ModelDir.open(path))

    @cache
    def weights(name: str) -> torch.Tensor:
        return exported.weights.get(name)

    return Tiny(exported.module, weights)
