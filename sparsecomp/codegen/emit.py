"""The exec programs as one C++ translation unit: every size a constant, one call a kernel.

Nothing is decided here: what each template needs is read off the exec op.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from xdsl.dialects.builtin import DYNAMIC_INDEX, BFloat16Type, ModuleOp
from xdsl.ir import Operation, SSAValue

import sparsecomp
from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import Mode, Space, row_strides, shape_of
from sparsecomp.runtime.artifact import ABI_VERSION, KV_COUNTER, TOKENS_COUNTER

from .counters import DECODE, Counters, counters
from .scalar import expression, number

HERE = Path(__file__).parent
HEADERS = (
    "simd", "act", "pool", "tile", "linear", "sparse_linear", "select", "mlp", "attention", "norm",
    "rope", "embed", "reduce", "fold",
)  # fmt: skip
"""In the order of their includes."""
FLOAT = 4


@dataclass(frozen=True)
class Pointer:
    """Where an operand's first row starts, and floats from row to row (0: one row for all)."""

    text: str
    ld: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __str__(self) -> str:
        return self.text


@dataclass
class Block:
    """The kernels of one module of the model."""

    comment: str
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Header:
    name: str
    text: str


def environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def header(name: str) -> Header:
    """A header without what only matters to a file of its own."""
    text = (HERE / "native" / f"{name}.h").read_text()
    text = re.sub(r'^#pragma once\n|^#include ".*"\n', "", text, flags=re.MULTILINE)
    return Header(f"{name}.h", text.strip() + "\n")


def emit(module: ModuleOp, title: str) -> str:
    """The C++ source of a module's programs. `title` is its first line."""
    env = environment()
    programs = [op for op in module.ops if isinstance(op, exec.Program)]
    slots = [op for op in module.ops if isinstance(op, exec.KVSlot)]
    counted = counters(module)
    writers = [_Writer(program, slots, counted, env) for program in programs]
    steps = next((w.steps for w in writers if w.counts), [])
    storages = [op for op in module.ops if isinstance(op, exec.Storage)]
    narrow = any(isinstance(op.element, BFloat16Type) for op in storages)
    return env.get_template("program.cpp.jinja").render(
        title=title,
        version=sparsecomp.__version__,
        headers=[header(name) for name in HEADERS],
        element="bf16" if narrow else "float",
        workers=_int(programs[0].workers),
        tile=max(_int(p.tile) for p in programs),
        shared=max(_int(p.shared) for p in programs) // FLOAT,
        private=max(_int(p.private) for p in programs) // FLOAT,
        slots=[
            {
                "groups": _int(s.groups),
                "key": _int(s.key),
                "value": _int(s.value),
                "window": _int(s.window),
            }
            for s in slots
        ],
        programs=[
            {
                "name": w.program.sym_name.data,
                "blocks": w.blocks,
                "by_rows": w.by_rows,
                "counts": w.counts,
            }
            for w in writers
        ],
        counters=counted.count,
        tokens_counter=TOKENS_COUNTER,
        trace_slots=counted.trace_slots,
        steps=steps,
        abi_version=ABI_VERSION,
    )


def _int(attribute: Any) -> int:
    return 0 if attribute is None else int(attribute.value.data)


class _Writer:
    """The body of one program."""

    def __init__(
        self,
        program: exec.Program,
        slots: Sequence[exec.KVSlot],
        counted: Counters,
        env: Environment,
    ) -> None:
        self.program = program
        self.slots = {_int(s.slot): s for s in slots}
        self.counted = counted
        self.counts = program.sym_name.data == DECODE
        self.steps: list[str] = []  # kernel and module of each, where they are timed
        self.env = env
        self.blocks: list[Block] = []
        self.pointers: dict[SSAValue, Pointer] = {}
        self.names: set[str] = set()
        self.by_rows = _int(program.tile) > 1
        for op in program.body.block.ops:
            self._write(op)

    # ---- text ----

    def _write(self, op: Operation) -> None:
        match op:
            case exec.Buffer():
                self._declare(op)
            case exec.View():
                base = self.pointers[op.source]
                start = _int(op.start)
                text = f"{base} + {start}" if start else str(base)
                strides = tuple(int(s) for s in op.strides.get_values())
                self.pointers[op.result] = Pointer(
                    f"({text})" if start else text, base.ld, shape_of(op.result), strides
                )
            case exec.Constant():
                shape = (1, *shape_of(op.result))
                text = self._weight(exec.find_storage(op, op.storage))
                self.pointers[op.result] = Pointer(text, 0, shape, row_strides(shape))
            case exec.Barrier() | exec.LogitsOnly():
                self._lines(op, {})
            case exec.Kernel():
                self._lines(op, CONTEXTS[type(op)](self, op))
                if isinstance(op, exec.Select) and op in self.counted.chosen:
                    self._note(op)
        if self.counts and isinstance(op, exec.Kernel | exec.Barrier):
            self._lap(op)

    def _lines(self, op: Operation, context: Mapping[str, Any]) -> None:
        name = op.name.removeprefix("exec.")
        text = self.env.get_template(f"kernels/{name}.jinja").render(**context)
        comment = getattr(op.attributes.get("module"), "data", "")
        if not self.blocks or (comment and self.blocks[-1].comment != comment):
            self.blocks.append(Block(comment))
        self.blocks[-1].lines += text.rstrip("\n").split("\n")

    def _note(self, op: exec.Select) -> None:
        """Worker 0 counts what was chosen, and traces it; every worker has the same list."""
        counter, trace = self.counted.chosen[op], self.counted.trace[op]
        self.blocks[-1].lines.append(
            f"if (worker == 0) note({self.pointers[op.out]}, count[{counter}], trace, {trace});"
        )

    def _lap(self, op: Operation) -> None:
        """Times what came since the last one, for the profile."""
        self.blocks[-1].lines.append(f"lap({len(self.steps)});")
        self.steps.append(f"{op.name.removeprefix('exec.')} {self.blocks[-1].comment}")

    def _declare(self, op: exec.Buffer) -> None:
        shape = shape_of(op.result)
        width = math.prod(shape[1:])
        assert op.space is not None
        space = op.space.data
        if space is Space.OUTPUT:
            text = "logits"
        else:
            base = "shared" if space is Space.SHARED else "own"
            assert op.offset is not None
            text = f"({base} + {_int(op.offset) // FLOAT})"
        self.pointers[op.result] = Pointer(text, width, shape, row_strides(shape))

    # ---- what templates ask for ----

    def _weight(self, storage: exec.Storage) -> str:
        element = "float" if storage.layout.data is exec.Layout.FLOATS else "T"
        return f"weight<{element}>(w, {_int(storage.offset)})"

    def _named(self, op: Operation, key: str) -> str:
        """A weight of an op, or nullptr."""
        symbol = op.properties.get(key)
        return "nullptr" if symbol is None else self._weight(exec.find_storage(op, symbol))  # type: ignore[arg-type]

    def _rows(self, value: SSAValue) -> str:
        return "rows" if shape_of(value)[0] == DYNAMIC_INDEX else "1"

    def _units(self, op: exec.Kernel, units: int) -> str:
        """The units of this worker: `first, end`."""
        work = op.work_of
        if work.mode is not Mode.SPLIT:
            return f"0, {units}"
        first, end = _share(work.bounds)
        return f"{first}, {end}"

    def _parts(self, value: SSAValue) -> str:
        """A partial result in worker 0's arena."""
        return self.pointers[value].text.replace("own", "all")

    def embed(self, op: exec.Embed) -> dict[str, Any]:
        storage = exec.find_storage(op, op.table)
        floats = storage.layout.data is exec.Layout.FLOATS
        return {
            "rows": self._rows(op.out),
            "element": "float" if floats else "T",
            "width": math.prod(storage.dims[1:]),
            "out": self.pointers[op.out],
            "table": self._weight(storage),
            "index": _index(op.index.data),
        }

    def ids(self, op: exec.Ids) -> dict[str, Any]:
        return {
            "rows": self._rows(op.out),
            "out": self.pointers[op.out],
            "index": _index(op.index.data),
        }

    def norm(self, op: exec.Norm) -> dict[str, Any]:
        shape = shape_of(op.x)
        return {
            "rows": self._rows(op.x),
            "groups": math.prod(shape[1:-1]),
            "width": shape[-1],
            "kind": str(op.kind.data),
            "x": self.pointers[op.x],
            "out": self.pointers[op.out],
            "weight": self._named(op, "weight"),
            "bias": self._named(op, "bias"),
            "eps": number(op.eps.value.data),
        }

    def linear(self, op: exec.Linear) -> dict[str, Any]:
        storage = exec.find_storage(op, op.weight)
        outputs, inputs = storage.dims
        x, out = self.pointers[op.x], self.pointers[op.out]
        groups = math.prod(shape_of(op.x)[1:-1])
        by_rows = op.work_of.mode is Mode.ROWS
        if groups > 1:  # rows of rows: they lie one behind the other
            rows = f"{groups} * rows" if by_rows else str(groups)
            x_ld, out_ld = inputs, outputs
        else:
            rows, x_ld, out_ld = self._rows(op.x), x.ld, out.ld
        return {
            "tiled": by_rows or groups > 1,
            "by_columns": storage.layout.data is exec.Layout.COLUMNS,
            "element": "T",
            "inputs": inputs,
            "outputs": outputs,
            "x": x,
            "x_ld": x_ld,
            "out": out,
            "out_ld": out_ld,
            "weight": self._named(op, "weight"),
            "bias": self._named(op, "bias"),
            "rows": rows,
            "units": self._units(op, outputs),
        }

    def sparse_linear(self, op: exec.SparseLinear) -> dict[str, Any]:
        outputs, inputs = exec.find_storage(op, op.weight).dims
        by_inputs, blocks = op.side.data is spz.Side.INPUTS, _int(op.blocks)
        size = (inputs if by_inputs else outputs) // blocks
        return {
            "by_inputs": by_inputs,
            "inputs": inputs,
            "outputs": outputs,
            "blocks": blocks,
            "size": size,
            "x": self.pointers[op.x],
            "list": self.pointers[op.list],
            "out": self.pointers[op.out],
            "weight": self._named(op, "weight"),
            "bias": self._named(op, "bias"),
            "units": self._units(op, size),
        }

    def mlp(self, op: exec.Mlp) -> dict[str, Any]:
        neurons, inputs, outputs = exec.find_storage(op, op.weights).dims
        return {
            "tiled": op.work_of.mode is Mode.ROWS,
            "element": "T",
            "act": str(op.act.data),
            "gated": "true" if op.gated is not None else "false",
            "inputs": inputs,
            "outputs": outputs,
            "x": self.pointers[op.x],
            "out": self.pointers[op.out],
            "weights": self._named(op, "weights"),
            "gate_bias": self._named(op, "gate_bias"),
            "up_bias": self._named(op, "up_bias"),
            "rows": self._rows(op.x),
            "units": self._units(op, neurons),
        }

    def select(self, op: exec.Select) -> dict[str, Any]:
        return {
            "units": shape_of(op.x)[1],
            "count": None if op.count is None else _int(op.count),
            "group": None if op.group is None else _int(op.group),
            "magnitude": "true" if op.magnitude is not None else "false",
            "threshold": None if op.threshold is None else number(op.threshold.value.data),
            "x": self.pointers[op.x],
            "out": self.pointers[op.out],
            "scales": self._named(op, "scales"),
        }

    def neurons(self, op: exec.Neurons) -> dict[str, Any]:
        neurons, inputs, outputs = exec.find_storage(op, op.weights).dims
        return {
            "element": "T",
            "act": str(op.act.data),
            "gated": "true" if op.gated is not None else "false",
            "gate_only": "true" if op.gate_only is not None else "false",
            "inputs": inputs,
            "outputs": outputs,
            "x": self.pointers[op.x],
            "out": self.pointers[op.out],
            "weights": self._named(op, "weights"),
            "gate_bias": self._named(op, "gate_bias"),
            "up_bias": self._named(op, "up_bias"),
            "units": self._units(op, neurons),
        }

    def sparse_mlp(self, op: exec.SparseMlp) -> dict[str, Any]:
        _, inputs, outputs = exec.find_storage(op, op.weights).dims
        known = "gate" if op.gate_known is not None else "value"
        return {
            "element": "T",
            "act": str(op.act.data),
            "gated": "true" if op.gated is not None else "false",
            "known": "nothing" if op.values is None else known,
            "inputs": inputs,
            "outputs": outputs,
            "x": self.pointers[op.x],
            "list": self.pointers[op.list],
            "counter": self.counted.further.get(op),
            "values": "nullptr" if op.values is None else self.pointers[op.values],
            "out": self.pointers[op.out],
            "weights": self._named(op, "weights"),
            "gate_bias": self._named(op, "gate_bias"),
            "up_bias": self._named(op, "up_bias"),
        }

    def sum(self, op: exec.Sum) -> dict[str, Any]:
        own = op.work_of.mode is Mode.ROWS
        return {
            "own": own,
            "rows": self._rows(op.x),
            "width": math.prod(shape_of(op.out)[1:]),
            "x": self.pointers[op.x] if own else self._parts(op.x),
            "out": self.pointers[op.out],
            "bias": self._named(op, "bias"),
            "residual": None if op.residual is None else self.pointers[op.residual],
        }

    def rope(self, op: exec.Rope) -> dict[str, Any]:
        shape = shape_of(op.x)
        return {
            "rows": self._rows(op.x),
            "heads": math.prod(shape[1:-1]),
            "size": shape[-1],
            "rotary": _int(op.rotary),
            "pairing": str(op.pairing.data),
            "x": self.pointers[op.x],
            "out": self.pointers[op.out],
            "cos": self._named(op, "cos"),
            "sin": self._named(op, "sin"),
        }

    def append(self, op: exec.Append) -> dict[str, Any]:
        work = op.work_of
        return {
            "worker": work.bounds[0] if work.mode is Mode.ONE else None,
            "rows": self._rows(op.k),
            "slot": _int(op.slot),
            "k": self.pointers[op.k],
            "v": self.pointers[op.v],
        } | self._kv(op)

    def attend(self, op: exec.Attend) -> dict[str, Any]:
        return {
            "tiled": op.work_of.mode is Mode.ROWS,
            "rows": self._rows(op.q),
            "heads": shape_of(op.q)[1],
            "slot": _int(op.slot),
            "q": self.pointers[op.q],
            "list": None if op.list is None else self.pointers[op.list],
            "out": self.pointers[op.out],
            "out_size": math.prod(shape_of(op.out)[1:]),
            "window": _int(op.window),
            "chunk": _int(op.chunk),
            "scale": number(op.scale.value.data),
            "softcap": number(0.0 if op.softcap is None else op.softcap.value.data),
            "slopes": self._named(op, "slopes"),
            "sinks": self._named(op, "sinks"),
            "counter": KV_COUNTER,
        } | self._kv(op)

    def _kv(self, op: exec.Append | exec.Attend) -> dict[str, int]:
        slot = self.slots[_int(op.slot)]
        return {"groups": _int(slot.groups), "key": _int(slot.key), "value": _int(slot.value)}

    def combine(self, op: exec.Combine) -> dict[str, Any]:
        _, heads, value = shape_of(op.out)
        return {
            "heads": heads,
            "value": value,
            "x": self._parts(op.x),
            "list": None if op.list is None else self.pointers[op.list],
            "out": self.pointers[op.out],
            "sinks": self._named(op, "sinks"),
        }

    def last(self, op: exec.Last) -> dict[str, Any]:
        return {
            "worker": op.work_of.bounds[0],
            "x": self.pointers[op.x],
            "out": self.pointers[op.out],
            "width": math.prod(shape_of(op.out)[1:]),
        }

    def reduce(self, op: exec.Reduce) -> dict[str, Any]:
        shape = shape_of(op.x)
        fold = op.fold.data
        return {
            "rows": self._rows(op.x),
            "groups": math.prod(shape[1:-1]),
            "width": shape[-1],
            "out_width": shape[-1] if fold is exec.Fold.SOFTMAX else 1,
            "fold": str(fold),
            "x": self.pointers[op.x],
            "out": self.pointers[op.out],
        }

    def top_k(self, op: exec.TopK) -> dict[str, Any]:
        shape = shape_of(op.x)
        return {
            "rows": self._rows(op.x),
            "groups": math.prod(shape[1:-1]),
            "width": shape[-1],
            "count": shape_of(op.out)[-1],
            "x": self.pointers[op.x],
            "out": self.pointers[op.out],
        }

    def gather(self, op: exec.Gather) -> dict[str, Any]:
        return self._pick(op)

    def scatter(self, op: exec.Scatter) -> dict[str, Any]:
        return self._pick(op) | {"value": number(op.value.value.data)}

    def _pick(self, op: exec.Gather | exec.Scatter) -> dict[str, Any]:
        shape = shape_of(op.x)
        return {
            "rows": self._rows(op.x),
            "groups": math.prod(shape[1:-1]),
            "width": shape[-1],
            "count": shape_of(op.index)[-1],
            "x": self.pointers[op.x],
            "index": self.pointers[op.index],
            "out": self.pointers[op.out],
        }

    def expert_linear(self, op: exec.ExpertLinear) -> dict[str, Any]:
        _, outputs, inputs = exec.find_storage(op, op.weight).dims
        return {
            "rows": self._rows(op.x),
            "choices": shape_of(op.x)[1],
            "inputs": inputs,
            "outputs": outputs,
            "x": self.pointers[op.x],
            "experts": self.pointers[op.experts],
            "out": self.pointers[op.out],
            "weight": self._named(op, "weight"),
            "bias": self._named(op, "bias"),
            "units": self._units(op, outputs),
        }

    def map(self, op: exec.Map) -> dict[str, Any]:
        out = self.pointers[op.out]
        ins = [self.pointers[v] for v in op.ins]
        # A dimension of size 1 repeats: its stride is 0.
        strides = [
            [0 if n == 1 else s for n, s in zip(p.shape[1:], p.strides, strict=True)]
            for p in (*ins, out)
        ]
        sizes, strides, merged = _merge(list(out.shape[1:]), strides)
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
            "rows": self._rows(op.out),
            "out": out,
            "ins": ins,
            "loops": loops,
            "reads": [(f"a{i}", f"x{i}[{_subscript(s)}]") for i, s in enumerate(strides[:-1])],
            "steps": steps,
            "write": f"y[{_subscript(strides[-1])}]",
            "result": names[returned.operands[0]],
        }


CONTEXTS: dict[type[Operation], Callable[[_Writer, Any], dict[str, Any]]] = {
    exec.Embed: _Writer.embed,
    exec.Ids: _Writer.ids,
    exec.Norm: _Writer.norm,
    exec.Linear: _Writer.linear,
    exec.SparseLinear: _Writer.sparse_linear,
    exec.Mlp: _Writer.mlp,
    exec.Select: _Writer.select,
    exec.Neurons: _Writer.neurons,
    exec.SparseMlp: _Writer.sparse_mlp,
    exec.Sum: _Writer.sum,
    exec.Rope: _Writer.rope,
    exec.Append: _Writer.append,
    exec.Attend: _Writer.attend,
    exec.Combine: _Writer.combine,
    exec.Last: _Writer.last,
    exec.Reduce: _Writer.reduce,
    exec.TopK: _Writer.top_k,
    exec.Gather: _Writer.gather,
    exec.Scatter: _Writer.scatter,
    exec.ExpertLinear: _Writer.expert_linear,
    exec.Map: _Writer.map,
}


def _index(index: exec.Index) -> str:
    return "tokens[i]" if index is exec.Index.TOKENS else "pos + i"


def _share(bounds: Sequence[int]) -> tuple[str, str]:
    """This worker's bounds, as constants picked by `worker`."""
    table = ", ".join(map(str, bounds))
    return f"bounds({{{table}}})[worker]", f"bounds({{{table}}})[worker + 1]"


def _merge(sizes: list[int], strides: list[list[int]]) -> tuple[list[int], list[list[int]], int]:
    """Join neighbouring dimensions that every operand runs through as one.

    Returns the sizes, the strides, and how many of the new first dimension's steps make one of the
    old first dimension's.
    """
    sizes, strides = list(sizes) or [1], [list(s) or [0] for s in strides]
    merged = 1
    d = 0
    while d + 1 < len(sizes):
        if all(s[d] == s[d + 1] * sizes[d + 1] for s in strides):
            merged *= sizes[d + 1] if d == 0 else 1
            sizes[d : d + 2] = [sizes[d] * sizes[d + 1]]
            for s in strides:
                del s[d]
        else:
            d += 1
    return sizes, strides, merged


def _subscript(strides: Sequence[int]) -> str:
    terms = [f"d{i}" if s == 1 else f"d{i} * {s}" for i, s in enumerate(strides) if s != 0]
    return " + ".join(terms) or "0"
