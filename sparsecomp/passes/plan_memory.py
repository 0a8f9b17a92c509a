"""plan-memory: an offset for every buffer and every weight.

Buffers that do not live at the same time share bytes. A buffer lives from its first write to its
last read; one that other workers read, until the barrier after that, for a slower one may still be
reading. On a GPU one life ends before another where all that uses the first happens before all that
uses the second. Its lists live to the end of a step: whoever traces what is chosen reads them then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerAttr, ModuleOp, i64
from xdsl.ir import Operation

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Space, buffer_of, shape_of

from .base import Form, Pass, PassContext
from .forms import programs
from .streams import Order, each

ALIGN = 64
"""Bytes: a cache line, and the widest vector."""
FLOAT = 4


def aligned(size: int) -> int:
    return math.ceil(size / ALIGN) * ALIGN


class Life(Protocol):
    """That a buffer is needed, of `size` bytes."""

    buffer: exec.Buffer
    size: int

    def ends_before(self, other: Self) -> bool: ...


@dataclass
class Span:
    """A life on workers: op indices, both included."""

    buffer: exec.Buffer
    size: int
    first: int
    last: int

    def ends_before(self, other: Span) -> bool:
        return self.last < other.first


@dataclass
class Uses:
    """A life on streams: the kernels that use it, and those before all of them, as in Order."""

    buffer: exec.Buffer
    size: int
    uses: int
    before: int

    def ends_before(self, other: Uses) -> bool:
        return not self.uses & ~other.before


def together(one: Life, other: Life) -> bool:
    """Whether two buffers may be needed at the same time."""
    return not one.ends_before(other) and not other.ends_before(one)


def size_of(buffer: exec.Buffer, rows: int) -> int:
    """Bytes of all copies of a buffer of up to so many rows."""
    shape = [rows if n == DYNAMIC_INDEX else n for n in shape_of(buffer.result)]
    copies = 1 if buffer.copies is None else buffer.copies.value.data
    return aligned(copies * math.prod(shape) * FLOAT)


def arena(program: exec.Program, buffer: exec.Buffer) -> str:
    """Where a buffer lies: streams have one arena, workers one for all and one each."""
    shared = program.streams is not None or buffer.space == exec.SpaceAttr(Space.SHARED)
    return "shared" if shared else "private"


def lives(program: exec.Program) -> Sequence[Life]:
    """The lives of a program's buffers, in order of their beginning."""
    return lives_on_workers(program) if program.streams is None else lives_on_streams(program)


def lives_on_streams(program: exec.Program) -> list[Uses]:
    order = Order.of(program)
    found: dict[exec.Buffer, Uses] = {}
    last = max(order.bit.values(), default=0)
    for op, bit in order.bit.items():
        assert isinstance(op, exec.Kernel)
        for operand in (*op.inputs, *op.outputs):
            buffer = buffer_of(operand)
            if buffer is None or buffer.space == exec.SpaceAttr(Space.OUTPUT):
                continue
            size = size_of(buffer, program.tile.value.data)
            life = found.setdefault(buffer, Uses(buffer, size, 0, order.before[op]))
            life.uses |= bit
            life.before &= order.before[op]
        for kernel in each(op):
            if isinstance(kernel, exec.Select) and (buffer := buffer_of(kernel.out)) in found:
                found[buffer].uses |= last
    return list(found.values())


def lives_on_workers(program: exec.Program) -> list[Span]:
    tile = program.tile.value.data
    workers = 1 if program.workers is None else program.workers.value.data
    ops = list(program.body.block.ops)
    index = {op: i for i, op in enumerate(ops)}
    barriers = [i for i, op in enumerate(ops) if isinstance(op, exec.Barrier)]
    found: dict[Operation, Span] = {}
    for op in ops:
        if not isinstance(op, exec.Kernel):
            continue
        for operand in op.operands:
            buffer = buffer_of(operand)
            if buffer is None or buffer.space == exec.SpaceAttr(Space.OUTPUT):
                continue
            if buffer not in found:
                # A shared buffer has room for the rows of all workers.
                rows = tile * workers if buffer.space == exec.SpaceAttr(Space.SHARED) else tile
                found[buffer] = Span(buffer, size_of(buffer, rows), index[op], index[op])
            found[buffer].last = index[op]
    for life in found.values():
        if life.buffer.space != exec.SpaceAttr(Space.PRIVATE):
            life.last = min((b for b in barriers if b > life.last), default=len(ops)) - 1
    return sorted(found.values(), key=lambda life: life.first)


def place(lives: Sequence[Life]) -> int:
    """Give each buffer the lowest offset free for all its life; the arena's size in bytes."""
    placed: list[tuple[int, Life]] = []
    total = 0
    for life in lives:
        offset = 0
        neighbours = sorted((o, p.size) for o, p in placed if together(p, life))
        for start, size in neighbours:
            if offset + life.size <= start:
                break
            offset = max(offset, start + size)
        placed.append((offset, life))
        life.buffer.properties["offset"] = IntegerAttr(offset, i64)
        total = max(total, offset + life.size)
    return total


def place_weights(modules: Sequence[ModuleOp]) -> list[exec.Storage]:
    """Give each weight its offset among those of all modules; the weights in that order.

    Weights of one name in several modules are one.
    """
    placed: dict[str, exec.Storage] = {}
    offset = 0
    for module in modules:
        for op in module.ops:
            if not isinstance(op, exec.Storage):
                continue
            first = placed.setdefault(op.sym_name.data, op)
            if first is op:
                op.properties["offset"] = IntegerAttr(offset, i64)
                offset += aligned(op.bytes)
            else:
                assert op.of == first.of and op.dims == first.dims
                op.properties["offset"] = first.properties["offset"]
    return list(placed.values())


class PlanMemory(Pass):
    name = "plan-memory"
    help = "give every buffer and every weight its offset"
    requires = (Form.KERNELS, Form.SCHEDULED)
    ensures = (Form.RACE_FREE,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        place_weights([module])
        for program in programs(module):
            groups: dict[str, list[Life]] = {"shared": [], "private": []}
            for life in lives(program):
                groups[arena(program, life.buffer)].append(life)
            for name, group in groups.items():
                program.properties[name] = IntegerAttr(place(group), i64)
