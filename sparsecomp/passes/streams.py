"""Streams: what is known to be done before what, on a GPU.

A stream does its kernels in order. Between streams only events give an order: a kernel begins after
all that its stream was given before, and after all that the events it waits for stand for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xdsl.ir import Operation

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import buffer_of

MAIN = 0
"""The stream that a step begins and ends on."""


@dataclass(frozen=True)
class Order:
    """Which kernels happen before which, as sets of bits: kernel k of the program is bit k.

    `before` are those that are done when a kernel begins, `done` those that are done when the main
    stream is. `started` is whether a kernel's stream had waited for the step to begin.
    """

    bit: Mapping[Operation, int]
    before: Mapping[Operation, int]
    done: int
    started: Mapping[Operation, bool]

    @staticmethod
    def of(program: exec.Program) -> Order:
        bit: dict[Operation, int] = {}
        before: dict[Operation, int] = {}
        started: dict[Operation, bool] = {}
        known: dict[int, int] = {MAIN: 0}
        events: dict[int, int] = {}
        for op in program.body.block.ops:
            match op:
                case exec.Record():
                    events[op.event.value.data] = known.get(op.stream.value.data, 0)
                case exec.Wait() if op.event.value.data in events:
                    stream = op.stream.value.data
                    known[stream] = known.get(stream, 0) | events[op.event.value.data]
                case exec.Kernel():
                    stream = stream_of(op)
                    started[op] = stream in known
                    bit[op] = 1 << len(bit)
                    before[op] = known.get(stream, 0)
                    known[stream] = before[op] | bit[op]
        return Order(bit, before, known[MAIN], started)


def stream_of(op: exec.Kernel) -> int:
    return op.work_of.bounds[0]


def each(op: exec.Kernel) -> Sequence[exec.Kernel]:
    """The kernels of a launch, or the kernel itself."""
    return op.kernels if isinstance(op, exec.Launch) else (op,)


def reads(op: exec.Kernel) -> set[Operation | int]:
    """The buffers and cache slots that a kernel reads."""
    found: set[Operation | int] = {b for v in op.inputs if (b := buffer_of(v)) is not None}
    return found | {k.slot.value.data for k in each(op) if isinstance(k, exec.Attend)}


def writes(op: exec.Kernel) -> set[Operation | int]:
    """The buffers and cache slots that a kernel writes."""
    found: set[Operation | int] = {b for v in op.outputs if (b := buffer_of(v)) is not None}
    return found | {k.slot.value.data for k in each(op) if isinstance(k, exec.Append)}


def unordered(program: exec.Program) -> exec.Kernel | None:
    """The first kernel that begins before the step does, or reads what is not written for sure, or
    writes what may still be in use, or that nothing waits for; or None."""
    order = Order.of(program)
    writers: dict[Operation | int, int] = {}
    readers: dict[Operation | int, int] = {}
    for op, before in order.before.items():
        assert isinstance(op, exec.Kernel)
        conflicts = 0
        for read in reads(op):
            if isinstance(read, exec.Buffer) and read not in writers:
                return op
            conflicts |= writers.get(read, 0)
            readers[read] = readers.get(read, 0) | order.bit[op]
        for written in writes(op):
            conflicts |= writers.get(written, 0) | readers.get(written, 0)
            writers[written] = writers.get(written, 0) | order.bit[op]
        if conflicts & ~before & ~order.bit[op] or not order.started[op]:
            return op
    return next((op for op in order.bit if not order.bit[op] & order.done), None)  # type: ignore[return-value]
