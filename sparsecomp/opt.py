"""Passes over IR text, without a model: what `sparsecomp opt` and golden tests run."""

from __future__ import annotations

import torch
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError, VerifyException

from sparsecomp import dialects
from sparsecomp.dialects import exec
from sparsecomp.errors import SparsecompError
from sparsecomp.options import Device, Dtype
from sparsecomp.passes.base import PassContext
from sparsecomp.passes.pipeline import CUDA_PIPELINE, PIPELINE, find_pass, run_pass
from sparsecomp.recipe import Recipe
from sparsecomp.reference.evaluate import evaluate

TEXT_POSITIONS = 64
"""Positions compiled for: the text does not say."""
TEXT_WORKERS = 2
TEXT_PARTS = 4
"""Partial results of a kernel that leaves some, on a GPU."""


def parse(text: str) -> ModuleOp:
    """Parse and verify a module of any stage. Raises SparsecompError with the place."""
    try:
        module = Parser(dialects.context(), text).parse_module()
        module.verify()
    except (ParseError, VerifyException) as error:
        raise SparsecompError(f"not valid IR: {' '.join(str(error).split())}") from error
    return module


def optimise(
    text: str,
    passes: list[str],
    recipe: Recipe | None = None,
    dtype: Dtype = Dtype.F32,
    rank: int = 0,
    ranks: int = 1,
    device: Device = Device.CPU,
) -> str:
    """IR text through the named passes, as text; a recipe says what becomes sparse, and what
    is not quantised. Kept is the share of `rank` among `ranks`.

    Weights have no values here: a pass that must evaluate one says so.
    """
    runs = [find_pass(name) for name in passes]
    module = parse(text)
    ctx = PassContext(
        evaluate=evaluate,
        weights=_no_weights,
        positions=TEXT_POSITIONS,
        workers=TEXT_WORKERS,
        dtype=dtype,
        plan=None if recipe is None else recipe.plan(),
        wider=() if recipe is None else recipe.wider,
        rank=rank,
        ranks=ranks,
        device=device,
        parts=_parts,
    )
    for run in runs:
        run_pass(run, module, ctx)
    return str(module)


def _parts(op: exec.Kernel) -> int:
    return TEXT_PARTS if isinstance(op, exec.Mlp | exec.SparseMlp | exec.Attend) else 1


def _no_weights(name: str) -> torch.Tensor:
    raise SparsecompError(f"weight @{name} has no value: only its declaration was given")


def list_passes() -> list[tuple[str, str, str]]:
    """(stage, name, help) of every pass in order; then those that only a GPU's pipeline has."""
    steps = dict.fromkeys((*PIPELINE, *CUDA_PIPELINE))
    return [(step.stage, step.run.name, step.run.help) for step in steps]
