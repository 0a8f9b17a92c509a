"""The kernels of attention over a cache, of one row in parts that workers share."""

from __future__ import annotations

import math

from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerAttr, i64
from xdsl.ir import Attribute, Operation

from sparsecomp.dialects import exec, spz
from sparsecomp.passes.base import PassError
from sparsecomp.passes.build import shape_of

from .program import Lowering, ProgramBuilder


def rope(program: ProgramBuilder, op: spz.Rope) -> None:
    how: dict[str, Attribute | None] = {k: op.properties[k] for k in ("rotary", "pairing")}
    how |= {k: program.floats(op, k) for k in ("cos", "sin")}
    x = program.dense(op.x)
    program.kernel(exec.Rope, [x, program.result(op.result).value], how)


def attention(program: ProgramBuilder, op: spz.CachedAttention) -> None:
    q, k, v = (program.dense(x) for x in (op.q, op.k, op.v))
    program.kernel(exec.Append, [k, v], {"slot": op.slot})
    shape = shape_of(op.result)
    how: dict[str, Attribute | None] = {
        name: op.properties.get(name) for name in ("slot", "scale", "window", "chunk", "softcap")
    }
    how["slopes"] = program.floats(op, "slopes")
    sinks: dict[str, Attribute | None] = {"sinks": program.floats(op, "sinks")}
    if shape[0] == DYNAMIC_INDEX:
        if op.selection is not None:
            raise PassError(op, "of many rows with a selection has no native kernel")
        program.kernel(exec.Attend, [q, program.result(op.result).value], how | sinks)
        return
    head = math.ceil(shape[2] / exec.PART_ALIGN) * exec.PART_ALIGN + exec.PART_ALIGN
    parts = program.buffer((1, shape[1], head))
    kept = [] if op.selection is None else [program.dense(op.selection)]
    program.kernel(exec.Attend, [q, *kept, parts.value], how)
    program.kernel(exec.Combine, [parts.value, *kept, program.result(op.result).value], sinks)


def kv_slot(op: spz.CachedAttention) -> exec.KVSlot:
    """The keys and values that an attention caches."""
    properties: dict[str, Attribute] = {
        "slot": op.slot,
        "groups": IntegerAttr(shape_of(op.k)[1], i64),
        "key": IntegerAttr(shape_of(op.k)[2], i64),
        "value": IntegerAttr(shape_of(op.v)[2], i64),
    }
    if op.window is not None:
        properties["window"] = op.window
    return exec.KVSlot.create(properties=properties)


LOWERINGS: dict[type[Operation], Lowering] = {
    spz.Rope: rope,
    spz.CachedAttention: attention,
}
