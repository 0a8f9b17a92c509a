"""How many copies of its result a kernel leaves in its buffer, one behind the other.

Of one row they are partial results, to be added up or combined; of many rows all but the first, and
of sparse MLPs the last ones, are room to work in. Lists in segments need more room than others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue

from sparsecomp.dialects import exec, spz

from .call import is_tile, width
from .lists import segments_of
from .policy import PROGRAMS, TILE, blocks, next_power, row_block

MAX_SPLITS = 64
"""Shares of a context: more are not worth combining."""


def mlp_block(storage: exec.Storage) -> int:
    """Neurons that a program takes at once."""
    return max(1, min(4, 4 * TILE // next_power(max(storage.dims[1:]))))


def mlp_parts(op: exec.Mlp) -> int:
    """One row: what each program leaves. Many: the result, then room for all neurons' values."""
    storage = exec.find_storage(op, op.weights)
    neurons, _, outputs = storage.dims
    if is_tile(op.x):
        return 1 + blocks(neurons, outputs)
    return min(PROGRAMS, blocks(neurons, mlp_block(storage)))


def attend_parts(op: exec.Attend) -> int:
    """One row: what each program leaves that shares out the context of a group."""
    if is_tile(op.q):
        return 1
    module = op.get_toplevel_object()
    assert isinstance(module, ModuleOp)
    slots = (slot for slot in module.ops if isinstance(slot, exec.KVSlot))
    groups = next(slot.groups.value.data for slot in slots if slot.slot == op.slot)
    return max(1, min(MAX_SPLITS, PROGRAMS // groups))


SUMMED = 256
"""Columns of a program that adds listed rows up: 512 bytes of each in 16 bits."""


def sum_tile(width: int) -> tuple[int, int]:
    """How many rows, and columns of them, a program adds up at once."""
    columns = row_block(width, SUMMED)
    return TILE // columns, columns


def shares(op: exec.SparseMlp | exec.SparseLinear) -> int:
    """How many programs share a list, of those that add up the same columns."""
    if isinstance(op, exec.SparseMlp):
        most = max(d.value.data for d in (op.density, op.rest_density) if d is not None)
        count, _, size = exec.find_storage(op, op.weights).dims
    else:
        most = op.density.value.data
        size, count = exec.find_storage(op, op.weight).dims
    rows, columns = sum_tile(size)
    return max(1, min(blocks(2 * PROGRAMS, blocks(size, columns)), math.ceil(most * count / rows)))


def values_behind(op: exec.SparseMlp) -> int:
    """Floats behind the parts: the values of neurons that were not known before."""
    known = op.values is not None and op.gate_known is None
    return 0 if known else exec.find_storage(op, op.weights).dims[0]


def sparse_mlp_parts(op: exec.SparseMlp) -> int:
    return shares(op) + blocks(values_behind(op), width(op.out))


def sparse_linear_parts(op: exec.SparseLinear) -> int:
    return shares(op) if op.side.data is spz.Side.INPUTS else 1


def select_parts(op: exec.Select) -> int:
    """A list in segments takes as many numbers more."""
    segments = segments_of(op)
    return blocks(segments.number * (1 + segments.size), width(op.out))


PARTS: dict[type[Operation], Callable[[Any], int]] = {
    exec.Mlp: mlp_parts,
    exec.Attend: attend_parts,
    exec.SparseMlp: sparse_mlp_parts,
    exec.SparseLinear: sparse_linear_parts,
    exec.Select: select_parts,
}


def parts(op: exec.Kernel) -> int:
    """How many copies of its output the buffer has room for."""
    return PARTS[type(op)](op) if type(op) in PARTS else 1


def added(value: SSAValue) -> int:
    """How many copies of a value are to be added up, or combined."""
    makers = (use.operation for use in value.uses)
    (maker,) = (op for op in makers if isinstance(op, exec.Kernel) and value in op.outputs)
    if isinstance(maker, exec.SparseMlp):
        return shares(maker)
    return 1 if is_tile(value) else parts(maker)
