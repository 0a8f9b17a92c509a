"""Facts of a program that its exec IR tells: bytes read, sizes, limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from xdsl.dialects.builtin import FloatAttr, MemRefType, ModuleOp
from xdsl.ir import Operation, SSAValue

from sparsecomp.dialects import exec
from sparsecomp.dialects.reads import (
    Reading,
    block_bytes,
    coarse_bytes,
    correction_of,
    neuron_bytes,
    refined_bytes,
    tables_of,
    weight_bytes,
    weights_of,
)
from sparsecomp.runtime.artifact import Block, BlockKind, CoarseUnits, Part

from .counters import DECODE, Counters, counters

KERNEL_PARTS: dict[type[Operation], Part] = {
    exec.Embed: Part.EMBED,
    exec.Mlp: Part.MLP,
    exec.Neurons: Part.MLP,
    exec.SparseMlp: Part.MLP,
    exec.Sketch: Part.PREDICTORS,
    exec.Refine: Part.HEAD,
    exec.SparseHead: Part.HEAD,
    exec.ExpertLinear: Part.MLP,
    exec.Sum: Part.MLP,
    exec.Rope: Part.ATTENTION,
    exec.Attend: Part.ATTENTION,
    exec.Combine: Part.ATTENTION,
}
"""What the weights that a kernel reads count as; linears and selections say so themselves."""


BLOCK_KINDS: dict[type[Operation], BlockKind] = {
    exec.SparseMlp: BlockKind.MLP,
    exec.Attend: BlockKind.ATTENTION,
    exec.SparseHead: BlockKind.HEAD,
}
"""What kind of block a kernel that reads chosen units is of."""


def _program(module: ModuleOp, name: str) -> exec.Program:
    return next(
        op for op in module.ops if isinstance(op, exec.Program) and op.sym_name.data == name
    )


def bytes_per_token(module: ModuleOp, reading: Reading = Reading.EXPECTED) -> dict[Part, int]:
    """Bytes of weights that one decode step reads, by part of the model.

    A table counts one row, and once, however many layers look it up; of experts, those chosen.
    """
    total = dict.fromkeys(Part, 0.0)
    seen: set[exec.Storage] = set()
    for op in _program(module, DECODE).walk():
        if not isinstance(op, exec.Kernel | exec.Constant) or isinstance(op, exec.Launch):
            continue
        if isinstance(op, exec.Kernel) and op.is_idle:
            continue  # the queue counts
        part = _part(op)
        tables = [storage for storage in dict.fromkeys(tables_of(op)) if storage not in seen]
        seen.update(tables)
        total[part] += sum(s.row_bytes(math.prod(s.dims[1:])) for s in tables)
        once = [storage for storage in dict.fromkeys(weights_of(op)) if storage not in seen]
        if isinstance(op, exec.Norm):  # a row is normed wherever it is read, out of cache
            seen.update(once)
            total[part] += sum(storage.bytes for storage in once)
        elif reading is not Reading.DENSE or isinstance(op, exec.SparseLinear):
            total[part] += weight_bytes(op, reading)
        elif part is Part.PREDICTORS:
            continue
        elif isinstance(op, exec.Neurons | exec.SparseMlp):  # two that would be one
            once = [s for s in once if s is not correction_of(op)]
            seen.update(once)
            total[part] += sum(storage.bytes for storage in once)
        elif not isinstance(op, exec.Select):
            total[part] += weight_bytes(op, reading)
    return {part: round(size) for part, size in total.items()}


def _part(op: Operation) -> Part:
    if isinstance(op, exec.Linear | exec.SparseLinear | exec.Select):
        return Part(op.part.data)
    if isinstance(op, exec.Neurons) and op.approximate:
        return Part.PREDICTORS
    if isinstance(op, exec.Sum):  # of the parts that a linear over some inputs leaves
        writers = (use.operation for use in op.x.uses)
        linear = next((op for op in writers if isinstance(op, exec.SparseLinear)), None)
        if linear is not None:
            return _part(linear)
    return KERNEL_PARTS.get(type(op), Part.OTHER)


def blocks(module: ModuleOp) -> tuple[Block, ...]:
    """The sparse blocks of @decode, in order: what each selection chooses from."""
    where = counters(module)
    found = []
    writer: dict[exec.Buffer | None, exec.Kernel] = {}
    for op in _program(module, DECODE).walk():
        if isinstance(op, exec.Select) and not (_is_rest(op) or _refined(op)):
            predictor = round(sum(weight_bytes(p) for p in _predictor(op, writer)))
            refine = writer.get(exec.buffer_of(op.x))
            found.append(_block(op, predictor, where, refine))
        if isinstance(op, exec.Kernel) and not isinstance(op, exec.Launch):
            writer |= dict.fromkeys(map(exec.buffer_of, op.outputs), op)
    return tuple(found)


def _is_rest(select: exec.Select) -> bool:
    """Whether it lists the neurons that count as coarse values."""
    return any(
        isinstance(use.operation, exec.SparseMlp) and use.operation.rest is select.out
        for use in select.out.uses
    )


def _refined(select: exec.Select) -> bool:
    """Whether it lists the rows of a head that are scored once more."""
    return any(isinstance(use.operation, exec.Refine) for use in select.out.uses)


def _predictor(
    op: exec.Kernel, writer: Mapping[exec.Buffer | None, exec.Kernel]
) -> Iterator[exec.Kernel]:
    """The kernels, up to a selection, that are there for it alone; but for a refinement, of which
    the program counts what is read."""
    if _part(op) is Part.PREDICTORS or isinstance(op, exec.Quantize | exec.Refine):
        if not isinstance(op, exec.Refine):
            yield op
        before = writer.get(exec.buffer_of(op.inputs[0]))
        if before is not None:
            yield from _predictor(before, writer)


def _block(
    select: exec.Select, predictor_bytes: int, where: Counters, scored_by: exec.Kernel | None
) -> Block:
    readers = [use.operation for use in select.out.uses]
    mlp = next((op for op in readers if isinstance(op, exec.SparseMlp)), None)
    if mlp is not None:
        chosen, active = neuron_bytes(mlp)
    else:
        chosen = sum(
            block_bytes(op) for op in readers if isinstance(op, exec.SparseLinear | exec.SparseHead)
        )
        active = 0
    owner = mlp or next(op for op in readers if isinstance(op, exec.Attend | exec.SparseHead))
    kind = next(kind for kernel, kind in BLOCK_KINDS.items() if isinstance(owner, kernel))
    units, density = exec.shape_of(select.x)[-1], select.density.value.data
    further = None if mlp is None else where.further.get(mlp)
    return Block(
        module=getattr(owner.attributes.get("module"), "data", ""),
        kind=kind,
        units=units,
        fewest=_fewest(select, units),
        density=density,
        active=density if mlp is None or further is None else mlp.active.value.data,
        chosen_bytes=chosen,
        active_bytes=active,
        predictor_bytes=predictor_bytes,
        chosen_counter=where.chosen[select],
        active_counter=further,
        trace=where.trace[select],
        coarse=_coarse_units(mlp or scored_by, where),
    )


def _fewest(select: exec.Select, units: int) -> int:
    """How many a selection chooses at least."""
    if select.count is None or select.group is None:
        return 0
    count, group = select.count.value.data, select.group.value.data
    return units // group * count + min(units % group, count)


def _coarse_units(op: exec.Kernel | None, where: Counters) -> CoarseUnits | None:
    """What is read of units beside those that are chosen."""
    match op:
        case exec.SparseMlp(rest=SSAValue() as units, rest_density=FloatAttr() as density):
            unit = coarse_bytes(op)
        case exec.Refine(list=units, density=density):
            unit = refined_bytes(op)
        case _:
            return None
    selects = {exec.buffer_of(select.out): counter for select, counter in where.chosen.items()}
    return CoarseUnits(density.value.data, unit, selects[exec.buffer_of(units)])


def _slots(module: ModuleOp) -> list[exec.KVSlot]:
    return [op for op in module.ops if isinstance(op, exec.KVSlot)]


def kv_bytes_per_position(module: ModuleOp) -> int:
    """Bytes of keys and values that one position adds."""
    return exec.cache_item(module) * sum(
        slot.groups.value.data * (slot.key.value.data + slot.value.value.data)
        for slot in _slots(module)
    )


def rewind_limit(module: ModuleOp, positions: int) -> int | None:
    """How far below the furthest position a session can go back; None: all the way.

    A window's ring keeps the window and one tile of a prompt.
    """
    windows = [s.window.value.data for s in _slots(module) if s.window is not None]
    if not any(window < positions for window in windows):
        return None
    prefill = _program(module, "prefill")
    workers = 1 if prefill.workers is None else prefill.workers.value.data
    return workers * prefill.tile.value.data + 1


def logits_width(module: ModuleOp) -> int:
    """The size of the vocabulary that the program scores."""
    for op in _program(module, DECODE).body.block.ops:
        if isinstance(op, exec.Buffer) and op.space == exec.SpaceAttr(exec.Space.OUTPUT):
            assert isinstance(op.result.type, MemRefType)
            return math.prod(op.result.type.get_shape())
    raise ValueError("the program has no output")
