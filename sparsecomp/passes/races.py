"""Proof that a schedule is safe: no worker reads too early or writes over what is still needed.

Between two barriers workers run at their own pace. So within such a phase no byte may be written
by one worker and touched by another, and no buffer may share bytes with one that is still live.
On a GPU the same is asked of streams, between which events alone give an order.
"""

from __future__ import annotations

from xdsl.ir import Operation, SSAValue

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Mode

from .plan_memory import arena, lives, together
from .schedule_workers import reads, writes_for_others
from .streams import unordered


def race(program: exec.Program) -> Operation | None:
    """The first op that is not safe, or None."""
    if program.streams is not None:
        return unordered(program) or _overlaps(program)
    return _does_not_wait(program) or _left_behind(program) or _overlaps(program)


def _does_not_wait(program: exec.Program) -> Operation | None:
    """A kernel that reads what others write in the same phase, or writes what others read in it."""
    if program.workers is not None and program.workers.value.data == 1:
        return None
    read: set[Operation | int] = set()
    written: set[Operation | int] = set()
    for op in program.body.block.ops:
        if isinstance(op, exec.Barrier):
            read.clear()
            written.clear()
        elif isinstance(op, exec.Kernel):
            read |= reads(op)
            if reads(op) & written or writes_for_others(op) & read:
                return op
            written |= writes_for_others(op)
    return None


def _left_behind(program: exec.Program) -> Operation | None:
    """Idle work that does not go on in the next phase: who began it may still be at it then."""
    before: dict[SSAValue, Operation] = {}  # idle work of the phase before, by what it writes
    idle: dict[SSAValue, Operation] = {}
    for op in program.body.block.ops:
        if isinstance(op, exec.Barrier):
            if before:
                return next(iter(before.values()))
            before, idle = idle, {}
        elif isinstance(op, exec.Kernel) and op.work_of.mode in (Mode.IDLE, Mode.QUEUE):
            before.pop(op.operands[-1], None)
            if op.is_idle:
                idle[op.operands[-1]] = op
    return next(iter((before | idle).values()), None)


def _overlaps(program: exec.Program) -> Operation | None:
    """A buffer whose bytes another one uses during its life."""
    everything = lives(program)
    for i, a in enumerate(everything):
        for b in everything[i + 1 :]:
            if arena(program, a.buffer) != arena(program, b.buffer):
                continue
            if a.buffer.offset is None or b.buffer.offset is None or not together(a, b):
                continue
            low, high = a.buffer.offset.value.data, b.buffer.offset.value.data
            if low < high + b.size and high < low + a.size:
                return b.buffer
    return None
