"""Contexts of attention's kernels, and of rotary embeddings."""

from __future__ import annotations

import math
from typing import Any

from xdsl.ir import Operation

from sparsecomp.codegen.scalar import number
from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Mode, shape_of
from sparsecomp.runtime.artifact import KV_COUNTER

from .scope import Context, Scope, integer


def rope(scope: Scope, op: exec.Rope) -> dict[str, Any]:
    shape = shape_of(op.x)
    return {
        "rows": scope.rows(op.x),
        "heads": math.prod(shape[1:-1]),
        "size": shape[-1],
        "rotary": integer(op.rotary),
        "pairing": str(op.pairing.data),
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
        "cos": scope.floats(op, "cos"),
        "sin": scope.floats(op, "sin"),
    }


def append(scope: Scope, op: exec.Append) -> dict[str, Any]:
    work = op.work_of
    return {
        "worker": work.bounds[0] if work.mode is Mode.ONE else None,
        "rows": scope.rows(op.k),
        "slot": integer(op.slot),
        "k": scope.pointers[op.k],
        "v": scope.pointers[op.v],
    } | _kv(scope, op)


def attend(scope: Scope, op: exec.Attend) -> dict[str, Any]:
    return {
        "tiled": op.work_of.mode is Mode.ROWS,
        "rows": scope.rows(op.q),
        "heads": shape_of(op.q)[1],
        "slot": integer(op.slot),
        "q": scope.pointers[op.q],
        "list": None if op.list is None else scope.pointers[op.list],
        "out": scope.pointers[op.out],
        "out_size": math.prod(shape_of(op.out)[1:]),
        "window": integer(op.window),
        "chunk": integer(op.chunk),
        "scale": number(op.scale.value.data),
        "softcap": number(0.0 if op.softcap is None else op.softcap.value.data),
        "slopes": scope.floats(op, "slopes"),
        "sinks": scope.floats(op, "sinks"),
        "counter": KV_COUNTER,
    } | _kv(scope, op)


def _kv(scope: Scope, op: exec.Append | exec.Attend) -> dict[str, int]:
    slot = scope.slots[integer(op.slot)]
    return {"groups": integer(slot.groups), "key": integer(slot.key), "value": integer(slot.value)}


def combine(scope: Scope, op: exec.Combine) -> dict[str, Any]:
    _, heads, value = shape_of(op.out)
    return {
        "heads": heads,
        "value": value,
        "x": scope.parts(op.x),
        "list": None if op.list is None else scope.pointers[op.list],
        "out": scope.pointers[op.out],
        "sinks": scope.floats(op, "sinks"),
    }


CONTEXTS: dict[type[Operation], Context] = {
    exec.Rope: rope,
    exec.Append: append,
    exec.Attend: attend,
    exec.Combine: combine,
}
