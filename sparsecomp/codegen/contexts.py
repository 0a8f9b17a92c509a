"""What the template of each kernel is given: read off its exec op.

The operation picks the function, by `CONTEXTS`; a template has the name of its operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.dialects.builtin import DYNAMIC_INDEX, BFloat16Type, Float32Type, IntegerType
from xdsl.ir import Attribute, Operation, SSAValue

from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import Layout, Mode, shape_of
from sparsecomp.runtime.artifact import KV_COUNTER

from .counters import Counters
from .scalar import expression, number
from .strides import merge, subscript


@dataclass(frozen=True)
class Pointer:
    """Where an operand's first row starts, and floats from row to row (0: one row for all)."""

    text: str
    ld: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __str__(self) -> str:
        return self.text


def integer(attribute: Any) -> int:
    """The value of an integer attribute; 0 where there is none."""
    return 0 if attribute is None else int(attribute.value.data)


def element(storage: Attribute) -> str:
    """The native name of a storage's element type."""
    match storage:
        case Float32Type():
            return "float"
        case BFloat16Type():
            return "bf16"
        case IntegerType():
            return f"int{storage.width.data}"
        case _:
            raise ValueError(f"no kernel reads weights of {storage}")


@dataclass(frozen=True)
class Scope:
    """What is known where a kernel is called: its operands by value, the cache, the counters."""

    pointers: Mapping[SSAValue, Pointer]
    slots: Mapping[int, exec.KVSlot]
    counted: Counters

    def floats(self, op: Operation, key: str) -> str:
        """A weight of an op that lies as floats, or nullptr."""
        symbol = op.properties.get(key)
        if symbol is None:
            return "nullptr"
        return floats(exec.find_storage(op, symbol))  # type: ignore[arg-type]

    def rows(self, value: SSAValue) -> str:
        return "rows" if shape_of(value)[0] == DYNAMIC_INDEX else "1"

    def units(self, op: exec.Kernel, units: int) -> str:
        """The units of this worker: `first, end`."""
        work = op.work_of
        if work.mode in (Mode.QUEUE, Mode.IDLE):
            return "turns.first, turns.end"
        if work.mode is not Mode.SPLIT:
            return f"0, {units}"
        first, end = _share(work.bounds)
        return f"{first}, {end}"

    def parts(self, value: SSAValue) -> str:
        """A partial result in worker 0's arena."""
        return self.pointers[value].text.replace("own", "all")


def floats(storage: exec.Storage) -> str:
    return f"floats(w, {integer(storage.offset)})"


def matrix(storage: exec.Storage) -> dict[str, Any]:
    """A storage as its kernels see it: as rows of its last dimension."""
    by_columns = storage.layout.data is Layout.COLUMNS
    dims = storage.dims[::-1] if by_columns else storage.dims
    view = "columns" if by_columns else "matrix"
    name = element(storage.element)
    place = f"w + {integer(storage.offset)}"
    return {
        "element": name,
        "weight": f"{view}<{name}, {dims[-1]}>({place}, {math.prod(dims[:-1])})",
    }


def neurons_of(storage: exec.Storage, gated: bool) -> dict[str, Any]:
    """A storage of neurons as its kernels see it."""
    count, inputs, outputs = storage.dims
    name, flag = element(storage.element), "true" if gated else "false"
    place = f"w + {integer(storage.offset)}"
    return {
        "element": name,
        "gated": flag,
        "inputs": inputs,
        "outputs": outputs,
        "weights": f"neurons<{name}, {flag}, {inputs}, {outputs}>({place}, {count})",
    }


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


def select(scope: Scope, op: exec.Select) -> dict[str, Any]:
    return {
        "units": shape_of(op.x)[1],
        "count": None if op.count is None else integer(op.count),
        "group": None if op.group is None else integer(op.group),
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


def sketch(scope: Scope, op: exec.Sketch) -> dict[str, Any]:
    storage = exec.find_storage(op, op.rows)
    units, axes = storage.dims
    return {
        "all": units,
        "axes": axes,
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
        "rows": f"w + {integer(storage.offset)}",
        "units": scope.units(op, units),
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


def last(scope: Scope, op: exec.Last) -> dict[str, Any]:
    return {
        "worker": op.work_of.bounds[0],
        "x": scope.pointers[op.x],
        "out": scope.pointers[op.out],
        "width": math.prod(shape_of(op.out)[1:]),
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
        first, end = _share([b * merged for b in op.work_of.bounds])
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


CONTEXTS: dict[type[Operation], Callable[[Scope, Any], dict[str, Any]]] = {
    exec.Embed: embed,
    exec.Ids: ids,
    exec.Norm: norm,
    exec.Quantize: quantize,
    exec.Linear: linear,
    exec.SparseLinear: sparse_linear,
    exec.Activate: activate,
    exec.Mlp: mlp,
    exec.Select: select,
    exec.Neurons: neurons,
    exec.SparseMlp: sparse_mlp,
    exec.Sketch: sketch,
    exec.SparseHead: sparse_head,
    exec.Sum: sum_,
    exec.AllReduce: all_reduce,
    exec.Rope: rope,
    exec.Append: append,
    exec.Attend: attend,
    exec.Combine: combine,
    exec.Last: last,
    exec.Reduce: reduce,
    exec.TopK: top_k,
    exec.Gather: gather,
    exec.Scatter: scatter,
    exec.ExpertLinear: expert_linear,
    exec.Map: map_,
}


def _index(index: exec.Index) -> str:
    return "tokens[i]" if index is exec.Index.TOKENS else "pos + i"


def _share(bounds: Sequence[int]) -> tuple[str, str]:
    """This worker's bounds, as constants picked by `worker`."""
    table = ", ".join(map(str, bounds))
    return f"bounds({{{table}}})[worker]", f"bounds({{{table}}})[worker + 1]"
