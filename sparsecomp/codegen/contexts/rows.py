"""Contexts of kernels that work on rows alone, without weights."""

from __future__ import annotations

import math
from typing import Any

from xdsl.ir import Operation, SSAValue

from sparsecomp.codegen.scalar import expression, number
from sparsecomp.codegen.strides import merge, subscript
from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Mode, shape_of

from .scope import Context, Scope, share


def last(scope: Scope, op: exec.Last) -> dict[str, Any]:
    return {
        "worker": op.work_of.bounds[0],
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
        "width": math.prod(shape_of(op.out)[1:]),
    }


def map_(scope: Scope, op: exec.Map) -> dict[str, Any]:
    out = scope.pointers[op.out]
    ins = [scope.pointers[v] for v in op.ins]
    # A dimension of size 1 repeats: its stride is 0.
    strides = [
        [0 if n == 1 else s for n, s in zip(p.shape[1:], p.strides, strict=True)]
        for p in (*ins, out)
    ]
    sizes, strides, merged = merge(list(out.shape[1:]), strides)
    loops = [{"first": "0", "end": str(n)} for n in sizes]
    if op.work_of.mode is Mode.SPLIT:
        first, end = share([b * merged for b in op.work_of.bounds])
        loops[0] = {"first": first, "end": end}
    body = op.body.block
    names: dict[SSAValue, str] = {arg: f"a{i}" for i, arg in enumerate(body.args)}
    steps: list[tuple[str, str]] = []
    where = getattr(op.attributes.get("module"), "data", "")
    for inner in body.ops:
        if not isinstance(inner, exec.MapYield):
            names[inner.results[0]] = f"v{len(steps)}"
            text = expression(inner, [names[o] for o in inner.operands], where)
            steps.append((f"v{len(steps)}", text))
    returned = body.last_op
    assert returned is not None
    return {
        "rows": scope.rows(op.out),
        "out": out,
        "ins": ins,
        "loops": loops,
        "reads": [(f"a{i}", f"x{i}[{subscript(s)}]") for i, s in enumerate(strides[:-1])],
        "steps": steps,
        "write": f"y[{subscript(strides[-1])}]",
        "result": names[returned.operands[0]],
    }


def reduce(scope: Scope, op: exec.Reduce) -> dict[str, Any]:
    shape = shape_of(op.x)
    fold = op.fold.data
    return {
        "rows": scope.rows(op.x),
        "groups": math.prod(shape[1:-1]),
        "width": shape[-1],
        "out_width": shape[-1] if fold is exec.Fold.SOFTMAX else 1,
        "fold": str(fold),
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
    }


def top_k(scope: Scope, op: exec.TopK) -> dict[str, Any]:
    shape = shape_of(op.x)
    return {
        "rows": scope.rows(op.x),
        "groups": math.prod(shape[1:-1]),
        "width": shape[-1],
        "count": shape_of(op.out)[-1],
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
    }


def gather(scope: Scope, op: exec.Gather) -> dict[str, Any]:
    return _pick(scope, op)


def scatter(scope: Scope, op: exec.Scatter) -> dict[str, Any]:
    return _pick(scope, op) | {"value": number(op.value.value.data)}


def _pick(scope: Scope, op: exec.Gather | exec.Scatter) -> dict[str, Any]:
    shape = shape_of(op.x)
    return {
        "rows": scope.rows(op.x),
        "groups": math.prod(shape[1:-1]),
        "width": shape[-1],
        "count": shape_of(op.index)[-1],
        "x": scope.pointers[op.x],
        "index": scope.pointers[op.index],
        "out": scope.pointers[op.out],
    }


CONTEXTS: dict[type[Operation], Context] = {
    exec.Last: last,
    exec.Map: map_,
    exec.Reduce: reduce,
    exec.TopK: top_k,
    exec.Gather: gather,
    exec.Scatter: scatter,
}
