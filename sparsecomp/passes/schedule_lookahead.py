"""schedule-lookahead: predictions run beside other work, as early as their inputs allow.

A predictor that reads an earlier block's input (Deja Vu, arXiv 2310.17157, section 3.4) need not
stand between a block and its input. Where there is one, every kernel of @decode moves to the first
section (between two barriers) that its inputs allow, which leaves the fewest barriers. The products
of a prediction that could come later are idle work: workers that wait at a barrier take turns at
them, and what is left is shared out at the end of the last section that may have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Mode, WorkAttr
from sparsecomp.options import Overlap

from .base import Form, Pass, PassContext
from .forms import programs
from .schedule_workers import FLOATS_PER_LINE
from .tasks import kernels, latest_sections, predictions, sections, task_graph

AT_ONCE = 32 * 1024
"""Bytes of weights that a worker takes from a queue: about a microsecond."""


class Scheduler:
    """`uses`: what is made of predictions that are known early."""

    def __init__(self, program: exec.Program, uses: Overlap):
        self.program = program
        self.uses = uses
        self.graph = task_graph(program)
        self.latest = latest_sections(self.graph)
        earliest, found = sections(self.graph), predictions(program)
        self.ahead = [
            op for op in kernels(program) if op in found and self.latest[op] > earliest[op]
        ]
        self.places = earliest if uses.move else _as_placed(program)

    def run(self) -> None:
        if self.uses.move and self.uses.fill:
            for op in self.ahead:
                if isinstance(op, exec.Select):
                    self.places[op] = self.latest[op]
            for op in self.ahead:  # before those that read it
                if isinstance(op, exec.Linear) and op.work_of.mode is Mode.SPLIT:
                    self._spread(op)
        order = sorted(self.places, key=lambda op: (self.places[op], op.work_of.mode in QUEUED))
        rebuild(self.program.body.block, order, self.places)

    def _spread(self, op: exec.Linear) -> None:
        """Idle work from its first section on; a queue in the last before somebody reads it."""
        edges = self.graph.out_edges(op, data="waits")
        last = min(self.places[reader] - waits for _, reader, waits in edges)
        storage = exec.find_storage(op, op.weight)
        lines = AT_ONCE // storage.row_bytes(storage.rows[1]) // FLOATS_PER_LINE
        turn = [max(lines, 1) * FLOATS_PER_LINE]
        op.properties["work"] = WorkAttr.of(Mode.IDLE, turn)
        for section in range(self.places[op], last):
            self.places[op.clone()] = section
        op.properties["work"] = WorkAttr.of(Mode.QUEUE, turn)
        self.places[op] = last


QUEUED = (Mode.IDLE, Mode.QUEUE)
"""What comes last in a section."""


def _as_placed(program: exec.Program) -> dict[exec.Kernel, int]:
    """The sections of the kernels as they stand."""
    found: dict[exec.Kernel, int] = {}
    barriers = 0
    for op in program.body.block.ops:
        barriers += isinstance(op, exec.Barrier)
        if isinstance(op, exec.Kernel):
            found[op] = barriers
    return found


def rebuild(block: Block, order: Iterable[exec.Kernel], places: Mapping[exec.Kernel, int]) -> None:
    """The kernels in this order, what they refer to before each, barriers between sections."""
    for op in list(block.ops):
        op.detach()
    section = 0
    for op in order:
        for _ in range(section, places[op]):
            block.add_op(exec.Barrier.create())
        section = places[op]
        _add(block, op)


def _add(block: Block, op: Operation) -> None:
    for inner in op.walk():  # a launch refers to what its kernels do
        for operand in inner.operands:
            owner = operand.owner
            if isinstance(owner, Operation) and owner.parent is None:
                _add(block, owner)
    block.add_op(op)


class ScheduleLookahead(Pass):
    name = "schedule-lookahead"
    help = "move predictions beside other work, and wait as seldom as dependencies allow"
    requires = (Form.KERNELS, Form.SCHEDULED)
    ensures = (Form.SCHEDULED,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for program in programs(module):
            if program.sym_name.data == "decode":
                scheduler = Scheduler(program, ctx.overlap)
                if scheduler.ahead:  # else there is nothing to hide
                    scheduler.run()
