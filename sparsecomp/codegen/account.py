"""Facts of a program that its exec IR tells: bytes read, sizes, limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from xdsl.dialects.builtin import MemRefType, ModuleOp, SymbolRefAttr
from xdsl.ir import Operation

from sparsecomp import nibbles
from sparsecomp.dialects import exec
from sparsecomp.runtime.artifact import Block, BlockKind, CoarseUnits, Part

from .counters import DECODE, Counters, counters

FLOAT = 4
"""Bytes of an element of a bias."""

KERNEL_PARTS: dict[type[Operation], Part] = {
    exec.Embed: Part.EMBED,
    exec.Mlp: Part.MLP,
    exec.Neurons: Part.MLP,
    exec.SparseMlp: Part.MLP,
    exec.Sketch: Part.PREDICTORS,
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


class Reading(Enum):
    """Which reads of a decode step are counted."""

    EXPECTED = auto()
    """All; of chosen units as many as calibration expects."""
    DENSE = auto()
    """All of a program that reads every block whole and predicts nothing."""
    FIXED = auto()
    """Those that do not depend on what is chosen."""


def _program(module: ModuleOp, name: str) -> exec.Program:
    return next(
        op for op in module.ops if isinstance(op, exec.Program) and op.sym_name.data == name
    )


def _reads(op: Operation) -> Iterator[exec.Storage]:
    for value in op.properties.values():
        if isinstance(value, SymbolRefAttr):
            yield exec.find_storage(op, value)


def bytes_per_token(module: ModuleOp, reading: Reading = Reading.EXPECTED) -> dict[Part, int]:
    """Bytes of weights that one decode step reads, by part of the model.

    A table counts one row, and once, however many layers look it up; of experts, those chosen.
    """
    total = dict.fromkeys(Part, 0.0)
    seen: set[exec.Storage] = set()
    for op in _program(module, DECODE).body.block.ops:
        if not isinstance(op, exec.Kernel | exec.Constant):
            continue
        part = _part(op)
        once = [storage for storage in dict.fromkeys(_reads(op)) if storage not in seen]
        if isinstance(op, exec.Embed | exec.Rope):
            seen.update(once)
            total[part] += sum(s.row_bytes(math.prod(s.dims[1:])) for s in once)
        elif reading is not Reading.DENSE or isinstance(op, exec.SparseLinear):
            total[part] += _bytes(op, reading)
        elif isinstance(op, exec.Neurons | exec.SparseMlp):  # two that would be one
            once = [s for s in once if s is not _correction(op)]
            seen.update(once)
            total[part] += sum(storage.bytes for storage in once)
        elif part is not Part.PREDICTORS and not isinstance(op, exec.Select):
            total[part] += _bytes(op, reading)
    return {part: round(size) for part, size in total.items()}


def _correction(op: Operation) -> exec.Storage | None:
    """What corrects coarse neurons."""
    if isinstance(op, exec.Neurons) and op.correction is not None:
        return exec.find_storage(op, op.correction)
    return None


def _part(op: Operation) -> Part:
    if isinstance(op, exec.Linear | exec.SparseLinear | exec.Select):
        return Part(op.part.data)
    if isinstance(op, exec.Sum):  # of the parts that a linear over some inputs leaves
        writers = (use.operation for use in op.x.uses)
        linear = next((op for op in writers if isinstance(op, exec.SparseLinear)), None)
        if linear is not None:
            return _part(linear)
    return KERNEL_PARTS.get(type(op), Part.OTHER)


def _bytes(op: Operation, reading: Reading = Reading.EXPECTED) -> float:
    """Of a kernel alone; tables count whole."""
    match op:
        case exec.SparseMlp() | exec.SparseLinear() | exec.SparseHead() if reading is Reading.FIXED:
            return 0
        case exec.SparseMlp():
            chosen, further = _neuron_bytes(op)
            share = op.density.value.data * chosen + op.active.value.data * further
            if op.rest_density is not None:
                share += op.rest_density.value.data * _coarse_bytes(op)
            return _neuron(op).count * share
        case exec.SparseLinear() if reading is Reading.EXPECTED:
            return op.density.value.data * op.blocks.value.data * _block_bytes(op)
        case exec.Neurons() if op.coarse is not None:
            high, *_ = exec.find_storage(op, op.weights).sheets
            correction, neuron = _correction(op), _neuron(op)
            added = 0 if correction is None else correction.bytes
            return neuron.count * (high + neuron.biases) + added
        case exec.SparseHead() if reading is Reading.EXPECTED:
            return op.density.value.data * exec.shape_of(op.out)[1] * _block_bytes(op)
        case exec.Neurons():  # gates alone, or all but the columns of down
            neuron = _neuron(op)
            return neuron.count * (neuron.first + (neuron.up if op.gate_only is None else 0))
        case exec.ExpertLinear():  # the chosen experts alone
            return sum(s.bytes // s.dims[0] * _choices(op) for s in _reads(op))
        case _:
            return sum(storage.bytes for storage in _reads(op))


@dataclass(frozen=True)
class _Neuron:
    """Bytes of one neuron of an MLP, each with its bias: its `first` row (the gate's, or up's where
    there is no gate), the row of `up` behind a gate, the column of `down`."""

    count: int
    first: int
    up: int
    down: int
    biases: int


def _coarse_bytes(op: exec.SparseMlp) -> int:
    """The high plane of a neuron's column of down."""
    return exec.find_storage(op, op.weights).sheets[1]


def _neuron(op: exec.SparseMlp | exec.Neurons) -> _Neuron:
    storage = exec.find_storage(op, op.weights)
    gate_bias = 0 if op.gate_bias is None else FLOAT
    up_bias = 0 if op.up_bias is None else FLOAT
    if op.gated is None:
        up, down = storage.part_bytes
        return _Neuron(storage.dims[0], up + up_bias, 0, down, up_bias)
    gate, up, down = storage.part_bytes
    biases = gate_bias + up_bias
    return _Neuron(storage.dims[0], gate + gate_bias, up + up_bias, down, biases)


def _neuron_bytes(op: exec.SparseMlp) -> tuple[int, int]:
    """What a chosen neuron costs, and what more when it is read beyond its first product."""
    neuron = _neuron(op)
    if op.rest is not None:  # the high planes of its rows, and biases, have been read before
        storage = exec.find_storage(op, op.weights)
        low = nibbles.low_bytes(storage.dims[1])
        return low, (low if op.gated is not None else 0) + neuron.down
    if op.values is None:
        return neuron.first, neuron.up + neuron.down
    return (neuron.up if op.gate_known is not None else 0) + neuron.down, 0


def _block_bytes(op: exec.SparseLinear | exec.SparseHead) -> int:
    """Bytes of one block (of a head, or a row of the vocabulary) of a weight, with its bias."""
    blocks = op.blocks.value.data if isinstance(op, exec.SparseLinear) else exec.shape_of(op.out)[1]
    return sum(storage.bytes for storage in _reads(op)) // blocks


def blocks(module: ModuleOp) -> tuple[Block, ...]:
    """The sparse blocks of @decode, in order: what each selection chooses from."""
    where = counters(module)
    found = []
    writer: dict[exec.Buffer | None, exec.Kernel] = {}
    for op in _program(module, DECODE).body.block.ops:
        if isinstance(op, exec.Select) and not _is_rest(op):
            predictor = round(sum(_bytes(p) for p in _predictor(op, writer)))
            found.append(_block(op, predictor, where))
        if isinstance(op, exec.Kernel) and op.output is not None:
            writer[exec.buffer_of(op.output)] = op
    return tuple(found)


def _is_rest(select: exec.Select) -> bool:
    """Whether it lists the neurons that count as coarse values."""
    return any(
        isinstance(use.operation, exec.SparseMlp) and use.operation.rest is select.out
        for use in select.out.uses
    )


def _predictor(
    op: exec.Kernel, writer: Mapping[exec.Buffer | None, exec.Kernel]
) -> Iterator[exec.Kernel]:
    """The kernels, up to a selection, that are there for it alone."""
    if _part(op) is Part.PREDICTORS:
        yield op
        before = writer.get(exec.buffer_of(op.inputs[0]))
        if before is not None:
            yield from _predictor(before, writer)


def _block(select: exec.Select, predictor_bytes: int, where: Counters) -> Block:
    readers = [use.operation for use in select.out.uses]
    mlp = next((op for op in readers if isinstance(op, exec.SparseMlp)), None)
    if mlp is not None:
        chosen, active = _neuron_bytes(mlp)
    else:
        chosen = sum(
            _block_bytes(op)
            for op in readers
            if isinstance(op, exec.SparseLinear | exec.SparseHead)
        )
        active = 0
    owner = mlp or next(op for op in readers if isinstance(op, exec.Attend | exec.SparseHead))
    kind = next(kind for kernel, kind in BLOCK_KINDS.items() if isinstance(owner, kernel))
    density = select.density.value.data
    further = None if mlp is None else where.further.get(mlp)
    return Block(
        module=getattr(owner.attributes.get("module"), "data", ""),
        kind=kind,
        units=exec.shape_of(select.x)[-1],
        density=density,
        active=density if mlp is None or further is None else mlp.active.value.data,
        chosen_bytes=chosen,
        active_bytes=active,
        predictor_bytes=predictor_bytes,
        chosen_counter=where.chosen[select],
        active_counter=further,
        trace=where.trace[select],
        coarse=None if mlp is None else _coarse_units(mlp, where),
    )


def _coarse_units(mlp: exec.SparseMlp, where: Counters) -> CoarseUnits | None:
    if mlp.rest is None or mlp.rest_density is None:
        return None
    selects = {exec.buffer_of(select.out): counter for select, counter in where.chosen.items()}
    counter = selects[exec.buffer_of(mlp.rest)]
    return CoarseUnits(mlp.rest_density.value.data, _coarse_bytes(mlp), counter)


def _choices(op: exec.ExpertLinear) -> int:
    """How many experts a token chooses."""
    assert isinstance(op.experts.type, MemRefType)
    return math.prod(op.experts.type.get_shape())


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
    assert prefill.workers is not None
    return prefill.workers.value.data * prefill.tile.value.data + 1


def logits_width(module: ModuleOp) -> int:
    """The size of the vocabulary that the program scores."""
    for op in _program(module, DECODE).body.block.ops:
        if isinstance(op, exec.Buffer) and op.space == exec.SpaceAttr(exec.Space.OUTPUT):
            assert isinstance(op.result.type, MemRefType)
            return math.prod(op.result.type.get_shape())
    raise ValueError("the program has no output")
