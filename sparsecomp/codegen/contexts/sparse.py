"""Contexts of kernels that choose units, or that read the chosen ones alone."""

from __future__ import annotations

import math
from typing import Any

from xdsl.ir import Operation

from sparsecomp.codegen.scalar import number
from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import shape_of

from .scope import Context, Scope, integer, matrix, neurons_of


def select(scope: Scope, op: exec.Select) -> dict[str, Any]:
    return {
        "units": shape_of(op.x)[1],
        "count": None if op.count is None else integer(op.count),
        "group": None if op.group is None else integer(op.group),
        "log_share": None
        if op.probability is None
        else number(math.log(op.probability.value.data)),
        "or_all": op.or_all is not None,
        "magnitude": "true" if op.magnitude is not None else "false",
        "threshold": None if op.threshold is None else number(op.threshold.value.data),
        "below": None if op.below is None else number(op.below.value.data),
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
        "scales": scope.floats(op, "scales"),
    }


def neurons(scope: Scope, op: exec.Neurons) -> dict[str, Any]:
    storage = exec.find_storage(op, op.weights)
    rest = "Uncorrected{}"
    if op.z is not None and op.correction is not None:
        correction = exec.find_storage(op, op.correction)
        rank, rows = correction.dims[-1], matrix(correction)["weight"]
        rest = f"Correction<{rank}>{{{scope.pointers[op.z]}, {rows}}}"
    gated = op.gated is not None
    given = matrix(storage) if op.approximate else neurons_of(storage, gated)
    return {
        "rows": op.approximate,
        "inputs": storage.dims[1],
        "gated": "true" if gated else "false",
        "coarse": op.coarse is not None,
        "rest": rest,
        "act": str(op.act.data),
        "gate_only": "true" if op.gate_only is not None else "false",
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
        "gate_bias": scope.floats(op, "gate_bias"),
        "up_bias": scope.floats(op, "up_bias"),
        "units": scope.units(op, shape_of(op.out)[1]),
    } | given


def sparse_mlp(scope: Scope, op: exec.SparseMlp) -> dict[str, Any]:
    storage = exec.find_storage(op, op.weights)
    known = "gate" if op.gate_known is not None else "value"
    return {
        "act": str(op.act.data),
        "known": "nothing" if op.values is None else known,
        "x": scope.pointers[op.x],
        "list": scope.pointers[op.list],
        "counter": scope.counted.further.get(op),
        "values": "nullptr" if op.values is None else scope.pointers[op.values],
        "rest": None if op.rest is None else scope.pointers[op.rest],
        "coarse": None if op.coarse is None else scope.pointers[op.coarse],
        "out": scope.pointers[op.out],
        "gate_bias": scope.floats(op, "gate_bias"),
        "up_bias": scope.floats(op, "up_bias"),
    } | neurons_of(storage, op.gated is not None)


def sparse_linear(scope: Scope, op: exec.SparseLinear) -> dict[str, Any]:
    storage = exec.find_storage(op, op.weight)
    outputs, inputs = storage.dims
    by_inputs, blocks = op.side.data is spz.Side.INPUTS, integer(op.blocks)
    size = (inputs if by_inputs else outputs) // blocks
    return {
        "by_inputs": by_inputs,
        "inputs": inputs,
        "outputs": outputs,
        "blocks": blocks,
        "size": size,
        "x": scope.pointers[op.x],
        "list": scope.pointers[op.list],
        "out": scope.pointers[op.out],
        "bias": scope.floats(op, "bias"),
        "units": scope.units(op, size),
    } | matrix(storage)


def sketch(scope: Scope, op: exec.Sketch) -> dict[str, Any]:
    storage = exec.find_storage(op, op.rows)
    units, axes = storage.dims
    return {
        "all": units,
        "axes": axes,
        "bits": storage.bits,
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
        "rows": f"w + {integer(storage.offset)}",
        "units": scope.units(op, units),
    }


def refine(scope: Scope, op: exec.Refine) -> dict[str, Any]:
    storage = exec.find_storage(op, op.rows)
    units, axes = storage.dims
    return {
        "all": units,
        "axes": axes,
        "scores": scope.pointers[op.scores],
        "list": scope.pointers[op.list],
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
        "rows": f"w + {integer(storage.offset)}",
        "offset": number(op.offset.value.data),
    }


def sparse_head(scope: Scope, op: exec.SparseHead) -> dict[str, Any]:
    storage = exec.find_storage(op, op.weight)
    outputs, inputs = storage.dims
    return {
        "inputs": inputs,
        "outputs": outputs,
        "x": scope.pointers[op.x],
        "list": scope.pointers[op.list],
        "scores": scope.pointers[op.scores],
        "offset": number(op.offset.value.data),
        "out": scope.pointers[op.out],
        "bias": scope.floats(op, "bias"),
    } | matrix(storage)


CONTEXTS: dict[type[Operation], Context] = {
    exec.Select: select,
    exec.Neurons: neurons,
    exec.SparseMlp: sparse_mlp,
    exec.SparseLinear: sparse_linear,
    exec.Sketch: sketch,
    exec.Refine: refine,
    exec.SparseHead: sparse_head,
}
