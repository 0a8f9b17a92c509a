"""Weights by name, wherever they come from: made, of the checkpoint, or derived from others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from xdsl.dialects.builtin import ModuleOp

from sparsecomp.dialects import aten
from sparsecomp.passes.base import Weights
from sparsecomp.reference.evaluate import Derived, evaluate


def given_first(given: Mapping[str, torch.Tensor], checkpoint: Weights) -> Weights:
    """Weights that were made, then those of the checkpoint."""

    def get(name: str) -> torch.Tensor:
        return given[name] if name in given else checkpoint(name)

    return get


def resolved(module: ModuleOp, checkpoint: Weights, positions: int) -> Weights:
    """Weights of the checkpoint, and those that a module derives from them."""
    derived = {op.sym_name.data: op for op in module.ops if isinstance(op, aten.Derived)}

    def get(name: str) -> torch.Tensor:
        if name not in derived:
            return checkpoint(name)
        result = derived[name].body.block.last_op
        assert isinstance(result, aten.Yield)
        (value,) = evaluate(
            [result.value],
            {},
            length=positions,
            weights=checkpoint,
            derived=Derived(positions),
        )
        return value

    return get
