"""Tiny models for calibration: @forward after raise-head, and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from xdsl.dialects.builtin import ModuleOp

from sparsecomp.frontend.export import export_model
from sparsecomp.frontend.model_dir import ModelDir
from sparsecomp.passes.base import PassContext, Weights
from sparsecomp.passes.pipeline import run_pipeline
from sparsecomp.reference.evaluate import evaluate

POSITIONS = 32
ROWS = 4 * POSITIONS


@dataclass(frozen=True)
class Model:
    module: ModuleOp
    weights: Weights


def load(path: Path) -> Model:
    exported = export_model(ModelDir.open(path))

    @cache
    def weights(name: str) -> torch.Tensor:
        return exported.weights.get(name)

    ctx = PassContext(evaluate=evaluate, weights=weights, positions=POSITIONS)
    run_pipeline(exported.module, ctx, stop_after="raise-head")
    return Model(exported.module, weights)


def windows() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(3, 64, POSITIONS, dtype=np.int32) for _ in range(ROWS // POSITIONS)]
