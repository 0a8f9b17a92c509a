"""What the manifest says of an artifact: read off the model and its lowered programs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from xdsl.dialects.builtin import ModuleOp, TensorType

import sparsecomp
from sparsecomp.codegen.account import (
    blocks,
    bytes_per_token,
    kv_bytes_per_position,
    logits_width,
    rewind_limit,
)
from sparsecomp.codegen.counters import counters
from sparsecomp.dialects import aten
from sparsecomp.dialects.reads import Reading
from sparsecomp.frontend.export import ExportedModel
from sparsecomp.options import Dtype
from sparsecomp.passes.base import function
from sparsecomp.runtime import artifact, launch

from .builder import Built
from .lowered import Lowered


def manifest_of(
    exported: ExportedModel,
    lowered: Lowered,
    built: Built,
    *,
    positions: int,
    dtype: Dtype,
    made: Collection[str],
    weights_bytes: int,
) -> artifact.Manifest:
    """The manifest without its members' sizes. `made` are the weights that the model has not."""
    module = lowered.first
    vocabulary = _vocabulary(exported.module)
    counted = counters(module)
    return artifact.Manifest(
        compiler_version=sparsecomp.__version__,
        model=_model(exported, lowered, vocabulary, positions, dtype, made),
        programs=tuple(program.facts for program in built.programs),
        bytes_per_token=bytes_per_token(module),
        dense_bytes_per_token=bytes_per_token(module, Reading.DENSE),
        fixed_bytes_per_token=bytes_per_token(module, Reading.FIXED),
        blocks=blocks(module),
        counters=counted.count,
        trace_slots=counted.trace_slots,
        kv_bytes_per_position=kv_bytes_per_position(module),
        weights_bytes=weights_bytes,
        cuda=None if built.cuda is None else _cuda_facts(built.cuda),
        shards=_shards(lowered.of_ranks, vocabulary) if lowered.ranks > 1 else (),
    )


def _model(
    exported: ExportedModel,
    lowered: Lowered,
    vocabulary: int,
    positions: int,
    dtype: Dtype,
    made: Collection[str],
) -> artifact.ModelFacts:
    facts = exported.facts
    declared = (op for op in lowered.first.ops if isinstance(op, aten.Weight))
    own = (op for op in declared if op.sym_name.data not in made)
    return artifact.ModelFacts(
        name=facts.name,
        vocab_size=vocabulary,
        context=positions,
        layers=facts.layers,
        hidden=facts.hidden_size,
        parameters=sum(math.prod(op.type.get_shape()) for op in own),
        dtype=artifact.Dtype(dtype),
        eos_token_ids=facts.eos_ids,
        bos_token_id=facts.bos_ids[0] if facts.bos_ids else None,
        rewind_limit=_rewind_limit(lowered.all, positions),
    )


def _vocabulary(forward: ModuleOp) -> int:
    """The size of the vocabulary that the model scores."""
    (scores,) = function(forward, "forward").function_type.outputs
    assert isinstance(scores, TensorType)
    return scores.get_shape()[-1]


def _rewind_limit(modules: list[ModuleOp], positions: int) -> int | None:
    """What all programs can go back to."""
    limits = [rewind_limit(module, positions) for module in modules]
    return min((limit for limit in limits if limit is not None), default=None)


def _cuda_facts(members: Mapping[str, bytes]) -> artifact.CudaProgram:
    member = artifact.launch_member()
    program = launch.parse_program(members[member], member)
    return artifact.CudaProgram(tuple(program.drivers), launch.LAUNCH_VERSION)


def _shards(modules: list[ModuleOp], vocabulary: int) -> tuple[artifact.Shard, ...]:
    """What the manifest says of each rank's program."""
    widths = [logits_width(module) for module in modules]
    is_split = sum(widths) == vocabulary
    shards = []
    for rank, module in enumerate(modules):
        counted = counters(module)
        shards.append(
            artifact.Shard(
                first_token=sum(widths[:rank]) if is_split else 0,
                logits=widths[rank],
                bytes_per_token=bytes_per_token(module),
                dense_bytes_per_token=bytes_per_token(module, Reading.DENSE),
                fixed_bytes_per_token=bytes_per_token(module, Reading.FIXED),
                blocks=blocks(module),
                counters=counted.count,
                trace_slots=counted.trace_slots,
                kv_bytes_per_position=kv_bytes_per_position(module),
            )
        )
    return tuple(shards)
