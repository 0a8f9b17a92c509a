"""schedule-workers: who does what part of each kernel, whose each buffer is, where to wait.

Many rows: each worker takes its own rows through the whole program, and waits only for the others'
keys and values. One row: work that reads many weights is split, attention shares the context out,
and the small rest is done by every worker for itself, which is cheaper than waiting for one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from xdsl.builder import Builder
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerAttr, ModuleOp, i64
from xdsl.ir import Operation
from xdsl.rewriter import InsertPoint

from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import Mode, Space, SpaceAttr, WorkAttr, buffer_of, shape_of

from .base import Form, Pass, PassContext, PassError
from .forms import programs

FLOATS_PER_LINE = 16
"""Split results at cache lines, so that no two workers write one."""
NEURONS_PER_BLOCK = 4
"""Neurons that the MLP kernel takes at once."""
ROWS_AT_ONCE = 4
"""Rows, or columns, that a linear kernel takes at once."""
SMALL_LINEAR = 16 * 1024
"""Weights of a linear that each worker reads whole rather than wait for the others."""
LARGE_MAP = 8 * 1024
"""Elements from which a map is split."""
BEGUN = 20_000
"""Bytes that could be read while a worker waits for the first ones of a matrix. One worker begins
queries, the other their end, keys and values: with this SmolLM2 decodes 1.009 times as fast (95 %:
1.000 to 1.016; 673 rounds of benchmarks/turns.py), with 12,000 and 30,000 1.003 times."""


def even_bounds(units: int, workers: int, grain: int) -> list[int]:
    """Bounds of nearly equal shares of `units`, at multiples of `grain`."""
    (bounds,) = bounds_beside([(units, 1)], workers, grain)
    return bounds


def bounds_beside(
    parts: Sequence[tuple[int, int]], workers: int, grain: int, begun: int = 0
) -> Iterator[list[int]]:
    """The same of several, each so many units of a weight, as if they were one behind the other;
    to begin another one weighs `begun`."""
    sizes = [math.ceil(units / grain) * grain * weight + begun for units, weight in parts]
    start, total = 0, sum(sizes) - begun
    for (units, weight), size in zip(parts, sizes, strict=True):
        inner = ((total * w // workers - start) // (weight * grain) for w in range(1, workers))
        yield [0, *(min(max(grains * grain, 0), units) for grains in inner), units]
        start += size


class Scheduler:
    def __init__(self, program: exec.Program, workers: int):
        self.program = program
        self.workers = workers
        self.last = WorkAttr.of(Mode.ONE, [workers - 1])
        self.linears: dict[exec.Linear, WorkAttr] = {}
        self.added: set[exec.Buffer | None] = set()
        """What is added up over ranks, of all rows at once."""

    def run(self) -> None:
        ops = [op for op in self.program.body.block.ops if isinstance(op, exec.Kernel)]
        self.added = {buffer_of(op.x) for op in all_reduces(ops) if op.x is not None}
        for beside in linears_beside(ops):
            self.linears |= self._share_out(beside)
        for op in ops:
            work, space = self._place(op)
            op.properties["work"] = work
            for buffer in map(buffer_of, op.outputs):
                if buffer is not None:
                    self._own(op, buffer, space)
        self._wait(ops)
        self.program.properties["workers"] = IntegerAttr(self.workers, i64)

    def _place(self, op: exec.Kernel) -> tuple[WorkAttr, Space]:
        """A kernel's workers, and the space of its result."""
        of = (*op.outputs, *op.operands)[0]
        if isinstance(op, exec.Last):
            return self.last, Space.SHARED  # the last row is the last worker's
        if isinstance(op, exec.AllReduce):
            return WorkAttr.of(Mode.ONE, [0]), Space.SHARED  # worker 0 is the caller's thread
        if shape_of(of)[0] == DYNAMIC_INDEX:
            shared = buffer_of(of) in self.added
            return WorkAttr.of(Mode.ROWS), Space.SHARED if shared else Space.PRIVATE
        match op:
            case exec.Append():
                # Its position is in the last worker's share of the context.
                return self.last, Space.PRIVATE
            case exec.Attend():
                return WorkAttr.of(Mode.CONTEXT), Space.PARTS
            case exec.Mlp():
                return self._split(self._storage(op).dims[0], NEURONS_PER_BLOCK), Space.PARTS
            case exec.Sketch():
                return self._split(self._storage(op).dims[0], FLOATS_PER_LINE), Space.SHARED
            case exec.Refine() | exec.SparseHead():
                return WorkAttr.of(Mode.LIST), Space.SHARED
            case exec.SparseMlp():
                return WorkAttr.of(Mode.LIST), Space.PARTS
            case exec.Neurons():
                return self._split(shape_of(op.out)[1], FLOATS_PER_LINE), Space.SHARED
            case exec.Linear() if op in self.linears:
                return self.linears[op], Space.SHARED
            case exec.SparseLinear():
                outputs, inputs = self._storage(op).dims
                if op.side.data is spz.Side.INPUTS:
                    return self._within(inputs // op.blocks.value.data), Space.PARTS
                return self._within(outputs // op.blocks.value.data), Space.SHARED
            case exec.ExpertLinear():
                outputs = self._storage(op).dims[1]
                return self._split(outputs, FLOATS_PER_LINE), Space.SHARED
            case exec.Map():
                if math.prod(shape_of(of)) >= LARGE_MAP or self._is_output(op):
                    return self._split(shape_of(of)[1], FLOATS_PER_LINE), Space.SHARED
            case _ if self._is_output(op):
                raise PassError(op, "cannot write the logits: no kernel of its kind is split")
        return WorkAttr.of(Mode.EACH), Space.PRIVATE

    def _share_out(self, beside: Sequence[exec.Linear]) -> dict[exec.Linear, WorkAttr]:
        """Linears of one input as if they were one matrix: the fewer matrices a worker begins, the
        less it waits for the first bytes of one."""
        large = [op for op in beside if self._is_large(op)]
        storages = [self._storage(op) for op in large]
        parts = [(of.dims[0], of.row_bytes(of.dims[1])) for of in storages]
        bounds = bounds_beside(parts, self.workers, FLOATS_PER_LINE, BEGUN)
        return {op: WorkAttr.of(Mode.SPLIT, of_op) for op, of_op in zip(large, bounds, strict=True)}

    def _is_large(self, op: exec.Linear) -> bool:
        """Whether the others are worth waiting for; all of the logits are shared out."""
        outputs, inputs = self._storage(op).dims
        return outputs * inputs > SMALL_LINEAR or self._is_output(op)

    def _split(self, units: int, grain: int) -> WorkAttr:
        return WorkAttr.of(Mode.SPLIT, even_bounds(units, self.workers, grain))

    def _within(self, size: int) -> WorkAttr:
        """A share of every block, so that work is even whichever blocks are listed."""
        lines = size >= FLOATS_PER_LINE * self.workers
        return self._split(size, FLOATS_PER_LINE if lines else ROWS_AT_ONCE)

    def _storage(
        self,
        op: exec.Linear | exec.SparseLinear | exec.ExpertLinear | exec.Mlp | exec.Sketch,
    ) -> exec.Storage:
        match op:
            case exec.Mlp():
                symbol = op.weights
            case exec.Sketch():
                symbol = op.rows
            case _:
                symbol = op.weight
        return exec.find_storage(op, symbol)

    def _is_output(self, op: exec.Kernel) -> bool:
        buffers = map(buffer_of, op.outputs)
        return any(b is not None and b.space == SpaceAttr(Space.OUTPUT) for b in buffers)

    def _own(self, op: exec.Kernel, buffer: exec.Buffer, space: Space) -> None:
        if buffer.space is None:
            buffer.properties["space"] = SpaceAttr(space)
        elif buffer.space.data not in (space, Space.OUTPUT):
            raise PassError(op, "writes a part of what other workers write otherwise")

    def _wait(self, ops: Sequence[exec.Kernel]) -> None:
        """Barriers: the fewest that let no kernel read what another worker may still write."""
        if self.workers > 1:
            pending: set[Operation | int] = set()
            for op in ops:
                if reads(op) & pending:
                    Builder(InsertPoint.before(op)).insert(exec.Barrier.create())
                    pending.clear()
                pending |= writes_for_others(op)
        if any(all_reduces(ops)):
            return  # a rank that skips what only logits need would let the others wait for it
        appends = [op for op in ops if isinstance(op, exec.Append)]
        if appends and shape_of(appends[-1].k)[0] == DYNAMIC_INDEX:
            Builder(InsertPoint.after(appends[-1])).insert(exec.LogitsOnly.create())


def linears_beside(ops: Iterable[exec.Kernel]) -> Iterator[list[exec.Linear]]:
    """Linears that stand side by side and read the same."""
    for _, run in itertools.groupby(ops, lambda op: isinstance(op, exec.Linear) and op.x):
        beside = [op for op in run if isinstance(op, exec.Linear)]
        if beside:
            yield beside


def all_reduces(ops: Iterable[Operation]) -> Iterator[exec.AllReduce]:
    return (op for op in ops if isinstance(op, exec.AllReduce))


def reads(op: exec.Kernel) -> set[Operation | int]:
    """The buffers and cache slots that a kernel reads."""
    found: set[Operation | int] = {b for v in op.inputs if (b := buffer_of(v)) is not None}
    if isinstance(op, exec.Attend) and op.work_of.mode is Mode.ROWS:
        # In context mode a worker reads the new position only where it wrote it itself.
        found.add(op.slot.value.data)
    return found


def writes_for_others(op: exec.Kernel) -> set[Operation | int]:
    """The buffers and cache slots of which other workers may read what a kernel writes."""
    if isinstance(op, exec.Append):
        return {op.slot.value.data} if op.work_of.mode is Mode.ROWS else set()
    others = (SpaceAttr(Space.SHARED), SpaceAttr(Space.PARTS))
    buffers = map(buffer_of, op.outputs)
    return {b for b in buffers if b is not None and b.space in others}


class ScheduleWorkers(Pass):
    name = "schedule-workers"
    help = "share each kernel's work out to the workers and place the barriers"
    requires = (Form.KERNELS,)
    ensures = (Form.SCHEDULED,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for program in programs(module):
            Scheduler(program, ctx.workers).run()
