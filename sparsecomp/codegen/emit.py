"""The exec programs as one C++ translation unit: every size a constant, one call a kernel.

Nothing is decided here: what each template needs is read off the exec op (`contexts`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp
from xdsl.ir import Operation, SSAValue

import sparsecomp
from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Mode, Space, row_strides, shape_of
from sparsecomp.runtime.artifact import ABI_VERSION, TOKENS_COUNTER

from .contexts import CONTEXTS
from .contexts.scope import Pointer, Scope, floats, integer
from .counters import DECODE, Counters, counters

HERE = Path(__file__).parent
HEADERS = (
    "simd", "act", "pool", "tile", "row", "nibbles", "quantized", "matrix", "quantized_tile",
    "linear", "sparse_linear", "select", "mlp", "sketch", "turns", "refine", "sparse_head",
    "attention", "norm", "rope", "embed", "reduce", "fold",
)  # fmt: skip
"""In the order of their includes."""
FLOAT = 4


@dataclass
class Block:
    """The kernels of one module of the model."""

    comment: str
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Idle:
    """A kernel that workers take turns at while they wait."""

    turns: str
    lines: list[str]


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
    return env.get_template("program.cpp.jinja").render(
        title=title,
        version=sparsecomp.__version__,
        headers=[header(name) for name in HEADERS],
        element="bf16" if exec.cache_item(module) == 2 else "float",
        workers=integer(programs[0].workers),
        tile=max(integer(p.tile) for p in programs),
        shared=max(integer(p.shared) for p in programs) // FLOAT,
        private=max(integer(p.private) for p in programs) // FLOAT,
        slots=[
            {
                "groups": integer(s.groups),
                "key": integer(s.key),
                "value": integer(s.value),
                "window": integer(s.window),
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
        queues=max(len(w.queues) for w in writers),
        exchanges=any(isinstance(op, exec.AllReduce) for op in module.walk()),
        abi_version=ABI_VERSION,
    )


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
        self.counted = counted
        self.counts = program.sym_name.data == DECODE
        self.queues: dict[SSAValue, int] = {}  # by what they write
        self.idle: list[Idle] = []  # for the next barrier
        self.steps: list[str] = []  # kernel and module of each, where they are timed
        self.env = env
        self.blocks: list[Block] = []
        self.pointers: dict[SSAValue, Pointer] = {}
        self.scope = Scope(self.pointers, {integer(s.slot): s for s in slots}, counted)
        self.by_rows = integer(program.tile) > 1
        for op in program.body.block.ops:
            self._write(op)

    def _write(self, op: Operation) -> None:
        match op:
            case exec.Buffer():
                self._declare(op)
            case exec.View():
                base = self.pointers[op.source]
                start = integer(op.start)
                text = f"{base} + {start}" if start else str(base)
                strides = tuple(int(s) for s in op.strides.get_values())
                self.pointers[op.result] = Pointer(
                    f"({text})" if start else text, base.ld, shape_of(op.result), strides
                )
            case exec.Constant():
                shape = (1, *shape_of(op.result))
                text = floats(exec.find_storage(op, op.storage))
                self.pointers[op.result] = Pointer(text, 0, shape, row_strides(shape))
            case exec.Barrier():
                self._lines(op, {"meanwhile": self.idle})
                self.idle = []
            case exec.LogitsOnly():
                self._lines(op, {})
            case exec.Kernel() if op.is_idle:
                lines = self._render(op, CONTEXTS[type(op)](self.scope, op))
                self.idle.append(Idle(self._turns(op), lines))
                return
            case exec.Kernel():
                self._lines(op, CONTEXTS[type(op)](self.scope, op))
                if isinstance(op, exec.Select) and op in self.counted.chosen:
                    self._note(op)
        if self.counts and isinstance(op, exec.Kernel | exec.Barrier):
            self._lap(op)

    def _lines(self, op: Operation, context: Mapping[str, Any]) -> None:
        comment = getattr(op.attributes.get("module"), "data", "")
        if not self.blocks or (comment and self.blocks[-1].comment != comment):
            self.blocks.append(Block(comment))
        lines = self._render(op, context)
        if isinstance(op, exec.Kernel) and op.work_of.mode is Mode.QUEUE:
            head = f"for (Turns turns({self._turns(op)}); turns.take();)"
            lines = [head, *(f"    {line}" for line in lines)]
        self.blocks[-1].lines += lines

    def _render(self, op: Operation, context: Mapping[str, Any]) -> list[str]:
        name = op.name.removeprefix("exec.")
        text = self.env.get_template(f"kernels/{name}.jinja").render(**context)
        return text.rstrip("\n").split("\n")

    def _turns(self, op: exec.Kernel) -> str:
        """The queue of a kernel, how many units a worker takes of it at once, and of how many."""
        out = op.operands[-1]
        queue = self.queues.setdefault(out, len(self.queues))
        return f"queues[{queue}], {op.work_of.bounds[0]}, {shape_of(out)[1]}"

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
            text = f"({base} + {integer(op.offset) // FLOAT})"
            if space is Space.SHARED and shape[0] == DYNAMIC_INDEX:  # this worker's rows
                text = f"({text} + from * {width})"
        self.pointers[op.result] = Pointer(text, width, shape, row_strides(shape))
