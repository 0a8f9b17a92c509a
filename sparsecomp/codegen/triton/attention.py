"""The kernels of attention, and of what turns its heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xdsl.ir import Operation

from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import shape_of

from .call import (
    NO_COUNTS,
    NULL,
    STATE,
    Argument,
    Call,
    Constant,
    Keys,
    Scope,
    Values,
    call,
    counts,
    floats,
    is_tile,
    listed,
    row_stride,
    weights,
    width,
)
from .lists import lying
from .parts import added, parts
from .policy import LEAST_DOT, TILE_ROWS, blocks, next_power, warps

CACHED = {"*bf16": 8192, "*fp32": 2048}
"""Elements of keys that a program of attention has under way."""


def rope(scope: Scope, op: exec.Rope) -> list[Call]:
    *heads, size = shape_of(op.x)[1:]
    count, padded = math.prod(heads), next_power(size)
    block_h = min(next_power(count), max(1, 1024 // padded))
    constants: dict[str, Constant] = {
        "HEADS": count,
        "SIZE": size,
        **_turning(op),
        "X_STRIDE": row_stride(op.x),
        "OUT_STRIDE": row_stride(op.out),
        "BLOCK_H": block_h,
        "BLOCK": padded,
    }
    arguments = [STATE, floats(op.x), weights(op, "cos"), weights(op, "sin"), floats(op.out)]
    grid = (scope.rows(op.x), blocks(count, block_h))
    return [call("rope", arguments, grid, constants, warps(block_h * padded))]


def _turning(op: exec.Rope | exec.Append | exec.Attend) -> dict[str, Constant]:
    """How a kernel turns heads; 0 elements of them where it does not."""
    if op.rotary is None or op.pairing is None:
        return {"ROTARY": 0, "HALF": False}
    return {"ROTARY": op.rotary.value.data, "HALF": op.pairing.data is spz.Pairing.HALF}


def append(scope: Scope, op: exec.Append) -> list[Call]:
    slot = op.slot.value.data
    _, groups, key = shape_of(op.k)
    value = shape_of(op.v)[2]
    constants: dict[str, Constant] = {
        "KEY": key,
        "VALUE": value,
        "K_STRIDE": row_stride(op.k),
        "V_STRIDE": row_stride(op.v),
        **_kept(scope, slot),
        **_turning(op),
        "BLOCK_K": next_power(key),
        "BLOCK_V": next_power(value),
    }
    tables = [weights(op, "cos"), weights(op, "sin")]
    arguments = [STATE, floats(op.k), floats(op.v), *tables, *_cache(scope, slot)]
    return [call("append", arguments, (scope.rows(op.k), groups), constants, 1)]


def _kept(scope: Scope, slot: int) -> dict[str, Constant]:
    return {"RING": scope.ring(slot), "ROUND": scope.goes_round(slot)}


def _cache(scope: Scope, slot: int) -> list[Argument]:
    kind = f"{scope.cache}:16"
    return [Argument(kind, Keys(slot)), Argument(kind, Values(slot))]


def attend(scope: Scope, op: exec.Attend, new: exec.Append | None = None) -> list[Call]:
    """With `new`, which turns heads as `op` does, a decode step's position is appended too."""
    slot = scope.slots[op.slot.value.data]
    groups, key, value = (n.value.data for n in (slot.groups, slot.key, slot.value))
    shared, tile = shape_of(op.q)[1] // groups, is_tile(op.q)
    head = value if tile else shape_of(op.out)[2]
    rows = scope.rows(op.q) * shared
    block_k, block_v = (max(LEAST_DOT, next_power(size)) for size in (key, value))
    room = CACHED[scope.cache] // max(block_k, block_v)
    # One pair is multiplied without tensor cores, which would take sixteen.
    block_m = 1 if rows == 1 else max(LEAST_DOT, min(TILE_ROWS, room, next_power(rows)))
    constants: dict[str, Constant] = {
        "APPENDS": new is not None,
        "SHARED": shared,
        "LIST": lying(op.list),
        "KEY": key,
        "VALUE": value,
        **_kept(scope, op.slot.value.data),
        "Q_STRIDE": row_stride(op.q),
        "OUT_STRIDE": row_stride(op.out),
        "SCALE": op.scale.value.data,
        "WINDOW": 0 if op.window is None else op.window.value.data,
        "CHUNK": 0 if op.chunk is None else op.chunk.value.data,
        "SOFTCAP": 0.0 if op.softcap is None else op.softcap.value.data,
        "SLOPES": op.slopes is not None,
        "SINKS": op.sinks is not None,
        **_turning(op),
        "SPLITS": 0 if tile else parts(op),
        "PART": width(op.out),
        "HEAD": head,
        "PADDED": head - exec.PART_ALIGN,
        "PRECISION": "tf32x3" if scope.cache == "*fp32" else "tf32",
        "BLOCK_M": block_m,
        "BLOCK_N": max(LEAST_DOT, min(128, room // 2 if tile else room)),
        "BLOCK_K": block_k,
        "BLOCK_V": block_v,
    }
    arguments = [
        STATE,
        floats(op.q),
        listed(op.list),
        *((NULL, NULL) if new is None else (floats(new.k), floats(new.v))),
        *_cache(scope, op.slot.value.data),
        *(weights(op, name) for name in ("slopes", "sinks", "cos", "sin")),
        NO_COUNTS if op.list is None else counts(op, groups),
        floats(op.out),
    ]
    grid = (groups, parts(op), blocks(rows, block_m))
    # Tensor cores want their operands in registers: of more threads, each has fewer.
    return [call("attend", arguments, grid, constants, 4 if block_m == 1 else 8)]


def combine(scope: Scope, op: exec.Combine) -> list[Call]:
    _, heads, value = shape_of(op.out)
    head, copies = shape_of(op.x)[2], added(op.x)
    constants: dict[str, Constant] = {
        "LIST": lying(op.list),
        "VALUE": value,
        "HEAD": head,
        "PADDED": head - exec.PART_ALIGN,
        "PART": width(op.x),
        "PARTS": copies,
        "SINKS": op.sinks is not None,
        "BLOCK_P": next_power(copies),
        "BLOCK_V": next_power(value),
    }
    arguments = [floats(op.x), listed(op.list), weights(op, "sinks"), floats(op.out)]
    return [call("combine", arguments, (heads,), constants)]


CALLS: dict[type[Operation], Callable[[Scope, Any], list[Call]]] = {
    exec.Rope: rope,
    exec.Append: append,
    exec.Attend: attend,
    exec.Combine: combine,
}
