"""The pipeline, top to bottom: what happens to a module, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.exceptions import VerifyException

from sparsecomp.errors import SparsecompError

from .allocate_sparsity import AllocateSparsity
from .base import Pass, PassContext
from .canonicalize import Canonicalize
from .choose_layouts import ChooseLayouts
from .derive_decode import DeriveDecode
from .fold_positions import FoldPositions
from .fold_weights import FoldWeights
from .fuse_append import FuseAppend
from .fuse_linears import FuseLinears
from .fuse_maps import FuseMaps
from .fuse_norms import FuseNorms
from .fuse_residual import FuseResidual
from .fuse_rope import FuseRope
from .fuse_scale import FuseScale
from .fuse_selection import FuseSelection
from .fuse_sparse_attention import FuseSparseAttention
from .fuse_sparse_mlp import FuseSparseMlp
from .insert_predictors import InsertPredictors
from .plan_memory import PlanMemory
from .quantize_weights import QuantizeWeights
from .raise_attention import RaiseAttention
from .raise_experts import RaiseExperts
from .raise_head import RaiseHead
from .raise_linear import RaiseLinear
from .raise_mlp import RaiseMlp
from .raise_norm import RaiseNorm
from .raise_rope import RaiseRope
from .schedule_lookahead import ScheduleLookahead
from .schedule_streams import ScheduleStreams
from .schedule_workers import ScheduleWorkers
from .select_kernels import SelectKernels
from .shard import Shard
from .sparsify_head import SparsifyHead
from .split_linear import SplitLinear
from .to_rows import ToRows


@dataclass(frozen=True)
class Step:
    """A pass at its place, and the dialect that the module is in after it."""

    stage: str
    run: Pass


RAISING: tuple[Step, ...] = (
    # The exported graph, said in fewer words.
    Step("aten", Canonicalize()),
    Step("aten", FoldWeights()),
    # Attention is the one place that mixes positions: raise it, and the rest must be rows.
    Step("aten", RaiseAttention()),
    Step("aten", FoldPositions()),
    Step("aten", RaiseExperts()),
    Step("spz", ToRows()),
    # Moving dimensions left moves that cancel, and weights that are now reshaped.
    Step("spz", Canonicalize()),
    Step("spz", FoldWeights()),
    # What a transformer is made of. Rotary before splitting: it reads a head whole.
    Step("spz", RaiseLinear()),
    Step("spz", RaiseRope()),
    Step("spz", SplitLinear()),
    Step("spz", RaiseNorm()),
    Step("spz", RaiseMlp()),
    Step("spz", RaiseHead()),
)
"""From the exported graph to the model over a whole sequence, which calibration runs."""

LOWERING: tuple[Step, ...] = (
    # One sequence becomes a prompt and one token after another.
    Step("spz", DeriveDecode()),
    # What a token need not read: chosen, predicted, and left out.
    Step("spz", AllocateSparsity()),
    Step("spz", InsertPredictors()),
    Step("spz", FuseSparseMlp()),
    Step("spz", FuseSparseAttention()),
    Step("spz", SparsifyHead()),
    # A program for each rank, then for its machine.
    Step("spz", Shard()),
    Step("spz", QuantizeWeights()),
    Step("spz", ChooseLayouts()),
    Step("exec", SelectKernels()),
    Step("exec", FuseResidual()),
    Step("exec", FuseMaps()),
    Step("exec", ScheduleWorkers()),
    Step("exec", ScheduleLookahead()),
    Step("exec", PlanMemory()),
)
"""From the model to a scheduled program."""

PIPELINE = RAISING + LOWERING

CUDA_LOWERING: tuple[Step, ...] = (
    *LOWERING[: 1 + [step.run.name for step in LOWERING].index(FuseMaps.name)],
    Step("exec", FuseRope()),
    Step("exec", FuseScale()),
    Step("exec", FuseAppend()),
    Step("exec", FuseSelection()),
    Step("exec", FuseLinears()),
    Step("exec", FuseNorms()),
    Step("exec", ScheduleStreams()),
    LOWERING[-1],
)
"""The same for a GPU: fewer launches, and streams instead of workers."""

CUDA_PIPELINE = RAISING + CUDA_LOWERING

PASSES: dict[str, Pass] = {step.run.name: step.run for step in (*PIPELINE, *CUDA_PIPELINE)}


@dataclass(frozen=True)
class Event:
    """A pass that is about to run or has run: `number` is its place in the pipeline, from 1."""

    number: int
    step: Step
    module: ModuleOp
    seconds: float | None
    """None before the pass, its time after."""


def run_pipeline(
    module: ModuleOp,
    ctx: PassContext,
    watch: Callable[[Event], None] = lambda event: None,
    stop_after: str | None = None,
    steps: Sequence[Step] = PIPELINE,
) -> None:
    """Run the steps, a part of PIPELINE or CUDA_PIPELINE, in order, verifying after each.

    Raises SparsecompError naming the pass, the op and the model's module when a pass cannot go on.
    """
    for step in steps:
        number = 1 + (PIPELINE if step in PIPELINE else CUDA_PIPELINE).index(step)
        watch(Event(number, step, module, None))
        start = time.perf_counter()
        run_pass(step.run, module, ctx)
        watch(Event(number, step, module, time.perf_counter() - start))
        if step.run.name == stop_after:
            return


def run_pass(step: Pass, module: ModuleOp, ctx: PassContext) -> None:
    """One pass, then the verifier."""
    step(module, ctx)
    try:
        module.verify()
    except VerifyException as error:
        raise SparsecompError(f"pass {step.name} left an invalid module: {error}") from error


def find_pass(name: str) -> Pass:
    """Raises SparsecompError naming the passes there are."""
    if name not in PASSES:
        raise SparsecompError(f"no pass {name!r}; there are: {', '.join(PASSES)}")
    return PASSES[name]
