"""Contexts of kernels that a dense model has: linears, norms, MLPs, experts, sums."""

from __future__ import annotations

import math
from typing import Any

from xdsl.dialects.builtin import DYNAMIC_INDEX
from xdsl.ir import Operation

from sparsecomp.codegen.scalar import number
from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Layout, Mode, shape_of

from .scope import Context, Scope, matrix, neurons_of


def embed(scope: Scope, op: exec.Embed) -> dict[str, Any]:
    table = exec.find_storage(op, op.table)
    return {
        "rows": scope.rows(op.out),
        "width": math.prod(table.dims[1:]),
        "out": scope.pointers[op.out],
        "index": _index(op.index.data),
    } | matrix(table)


def ids(scope: Scope, op: exec.Ids) -> dict[str, Any]:
    return {
        "rows": scope.rows(op.out),
        "out": scope.pointers[op.out],
        "index": _index(op.index.data),
    }


def _index(index: exec.Index) -> str:
    return "tokens[i]" if index is exec.Index.TOKENS else "pos + i"


def norm(scope: Scope, op: exec.Norm) -> dict[str, Any]:
    shape = shape_of(op.x)
    return {
        "rows": scope.rows(op.x),
        "groups": math.prod(shape[1:-1]),
        "width": shape[-1],
        "kind": str(op.kind.data),
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
        "weight": scope.floats(op, "weight"),
        "bias": scope.floats(op, "bias"),
        "eps": number(op.eps.value.data),
    }


def quantize(scope: Scope, op: exec.Quantize) -> dict[str, Any]:
    return {
        "width": shape_of(op.x)[1],
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
    }


def linear(scope: Scope, op: exec.Linear) -> dict[str, Any]:
    storage = exec.find_storage(op, op.weight)
    outputs, inputs = storage.dims
    x, out = scope.pointers[op.x], scope.pointers[op.out]
    groups = math.prod(shape_of(op.x)[1:-1])
    by_rows = op.work_of.mode is Mode.ROWS
    if groups > 1:  # rows of rows: they lie one behind the other
        rows = f"{groups} * rows" if by_rows else str(groups)
        x_ld, out_ld = inputs, outputs
    else:
        rows, x_ld, out_ld = scope.rows(op.x), x.ld, out.ld
    return {
        "tiled": by_rows or groups > 1,
        "by_columns": storage.layout.data is Layout.COLUMNS,
        "inputs": inputs,
        "outputs": outputs,
        "x": x,
        "x_ld": x_ld,
        "out": out,
        "out_ld": out_ld,
        "bias": scope.floats(op, "bias"),
        "rows": rows,
        "units": scope.units(op, outputs),
    } | matrix(storage)


def expert_linear(scope: Scope, op: exec.ExpertLinear) -> dict[str, Any]:
    storage = exec.find_storage(op, op.weight)
    _, outputs, inputs = storage.dims
    _, choices, width = shape_of(op.x)
    return {
        "rows": scope.rows(op.x),
        "choices": choices,
        "width": width,
        "inputs": inputs,
        "outputs": outputs,
        "x": scope.pointers[op.x],
        "experts": scope.pointers[op.experts],
        "out": scope.pointers[op.out],
        "bias": scope.floats(op, "bias"),
        "units": scope.units(op, outputs),
    } | matrix(storage)


def activate(scope: Scope, op: exec.Activate) -> dict[str, Any]:
    return {
        "rows": scope.rows(op.x),
        "width": math.prod(shape_of(op.x)[1:]),
        "act": str(op.act.data),
        "x": scope.pointers[op.x],
        "up": None if op.up is None else scope.pointers[op.up],
        "out": scope.pointers[op.out],
    }


def mlp(scope: Scope, op: exec.Mlp) -> dict[str, Any]:
    storage = exec.find_storage(op, op.weights)
    return {
        "tiled": op.work_of.mode is Mode.ROWS,
        "act": str(op.act.data),
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
        "gate_bias": scope.floats(op, "gate_bias"),
        "up_bias": scope.floats(op, "up_bias"),
        "rows": scope.rows(op.x),
        "units": scope.units(op, storage.dims[0]),
    } | neurons_of(storage, op.gated is not None)


def sum_(scope: Scope, op: exec.Sum) -> dict[str, Any]:
    own = op.work_of.mode is Mode.ROWS
    return {
        "own": own,
        "rows": scope.rows(op.x),
        "width": math.prod(shape_of(op.out)[1:]),
        "x": scope.pointers[op.x] if own else scope.parts(op.x),
        "out": scope.pointers[op.out],
        "bias": scope.floats(op, "bias"),
        "residual": None if op.residual is None else scope.pointers[op.residual],
    }


def all_reduce(scope: Scope, op: exec.AllReduce) -> dict[str, Any]:
    shape = shape_of(op.out)
    return {
        "worker": op.work_of.bounds[0],
        "rows": "step.n" if shape[0] == DYNAMIC_INDEX else "1",  # of all workers
        "width": math.prod(shape[1:]),
        "x": None if op.x is None else scope.pointers[op.x],
        "out": scope.pointers[op.out],
    }


CONTEXTS: dict[type[Operation], Context] = {
    exec.Embed: embed,
    exec.Ids: ids,
    exec.Norm: norm,
    exec.Quantize: quantize,
    exec.Linear: linear,
    exec.ExpertLinear: expert_linear,
    exec.Activate: activate,
    exec.Mlp: mlp,
    exec.Sum: sum_,
    exec.AllReduce: all_reduce,
}
