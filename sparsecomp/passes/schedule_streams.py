"""schedule-streams: on which stream of a GPU each kernel runs, and what waits for what.

The main stream does the model. A prediction, its selection and what only they need run beside it
where it has other work meanwhile: a predictor that reads an earlier block's input (lookahead, Deja
Vu, arXiv 2310.17157, section 3.4), or that of heads, whose keys and values are needed in any case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import networkx as nx
from xdsl.builder import Builder
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerAttr, ModuleOp, i64
from xdsl.ir import Operation
from xdsl.rewriter import InsertPoint

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Mode, Space, SpaceAttr, WorkAttr, buffer_of, shape_of

from .base import Form, Parts, Pass, PassContext
from .forms import programs
from .schedule_lookahead import rebuild
from .schedule_workers import all_reduces
from .streams import MAIN, each, reads, stream_of, writes
from .tasks import predictions

SIDE = 1
"""The stream of predictions."""

WORK = (
    exec.Linear
    | exec.Mlp
    | exec.Neurons
    | exec.SparseMlp
    | exec.SparseLinear
    | exec.Sketch
    | exec.Refine
    | exec.SparseHead
    | exec.Attend
)
"""Kernels that take long enough to hide something behind them."""


def dependencies(kernels: Sequence[exec.Kernel]) -> nx.DiGraph[exec.Kernel]:
    """An edge from each kernel to those that must come after it: they read or overwrite what it
    writes, or overwrite what it reads."""
    graph: nx.DiGraph[exec.Kernel] = nx.DiGraph()
    writers: dict[Operation | int, list[exec.Kernel]] = {}
    readers: dict[Operation | int, list[exec.Kernel]] = {}
    for op in kernels:
        graph.add_node(op)
        earlier = [k for read in reads(op) for k in writers.get(read, ())]
        for written in writes(op):
            earlier += [*writers.get(written, ()), *readers.get(written, ())]
        graph.add_edges_from((k, op) for k in earlier)
        for read in reads(op):
            readers.setdefault(read, []).append(op)
        for written in writes(op):
            writers.setdefault(written, []).append(op)
    # Every rank adds up in the same order.
    graph.add_edges_from(pairwise(all_reduces(kernels)))
    return graph


def beside(graph: nx.DiGraph[exec.Kernel], predicted: set[exec.Kernel]) -> set[exec.Kernel]:
    """The predictions that other work can hide: it lies between what one needs and what needs it.

    What lies between depends on neither, so it goes on meanwhile.
    """
    kernels = list(graph)
    place = {op: i for i, op in enumerate(kernels)}
    hidden: set[exec.Kernel] = set()
    for one in nx.weakly_connected_components(graph.subgraph(predicted)):
        needed = [place[k] for op in one for k in graph.pred[op] if k not in one]
        needing = [place[k] for op in one for k in graph.succ[op] if k not in one]
        between = kernels[max(needed, default=len(kernels)) : min(needing, default=0)]
        others = (k for op in between[1:] if op not in predicted for k in each(op))
        if any(isinstance(kernel, WORK) for kernel in others):
            hidden |= one
    return hidden


def waits(graph: nx.DiGraph[exec.Kernel]) -> dict[exec.Kernel, list[exec.Kernel]]:
    """Which kernels of other streams each one must wait for: the fewest that keep the order."""
    whole = graph.copy()
    last: dict[int, exec.Kernel] = {}
    for op in graph:
        stream = stream_of(op)
        if stream in last:
            whole.add_edge(last[stream], op)
        last[stream] = op
    found: dict[exec.Kernel, list[exec.Kernel]] = {}
    for first, then in nx.transitive_reduction(whole).edges:
        if stream_of(first) != stream_of(then):
            found.setdefault(then, []).append(first)
    return found


def as_early_as_possible(graph: nx.DiGraph[exec.Kernel]) -> list[exec.Kernel]:
    """The kernels by the longest way to each."""
    place = {op: i for i, op in enumerate(graph)}
    generations = nx.topological_generations(graph)
    return [op for one in generations for op in sorted(one, key=place.__getitem__)]


def schedule(program: exec.Program, parts: Parts) -> None:
    kernels = [op for op in program.body.block.ops if isinstance(op, exec.Kernel)]
    if program.sym_name.data == "decode":
        kernels = as_early_as_possible(dependencies(kernels))
        rebuild(program.body.block, kernels, dict.fromkeys(kernels, 0))
    graph = dependencies(kernels)
    for op in kernels:
        op.properties["work"] = WorkAttr.of(Mode.STREAM, [MAIN])
        for kernel in each(op):
            for value in kernel.outputs:
                _own(buffer_of(value), parts(kernel))
    # Sums over ranks go through the host, when all before is done: nothing runs beside them.
    sums = list(all_reduces(kernels))
    side = set[exec.Kernel]() if sums else beside(graph, predictions(program))
    for op in side:
        op.properties["work"] = WorkAttr.of(Mode.STREAM, [SIDE])
    _wait(kernels, waits(graph))
    program.properties["streams"] = IntegerAttr(SIDE + 1 if side else 1, i64)
    if sums:
        return  # a rank that skips what only logits need would let the others wait for it
    appends = [op for op in kernels if isinstance(op, exec.Append)]
    if appends and shape_of(appends[-1].k)[0] == DYNAMIC_INDEX:
        Builder(InsertPoint.after(appends[-1])).insert(exec.LogitsOnly.create())


def _wait(
    kernels: Sequence[exec.Kernel], needed: Mapping[exec.Kernel, Sequence[exec.Kernel]]
) -> None:
    """An event behind each kernel that another stream needs, and waits before those that do."""
    events: dict[exec.Kernel, int] = {}
    place = {op: i for i, op in enumerate(kernels)}
    for then in kernels:
        for first in sorted(needed.get(then, ()), key=place.__getitem__):
            if first not in events:
                events[first] = len(events)
                record = exec.Record.create(properties=_at(events[first], first))
                Builder(InsertPoint.after(first)).insert(record)
            wait = exec.Wait.create(properties=_at(events[first], then))
            Builder(InsertPoint.before(then)).insert(wait)


def _own(buffer: exec.Buffer | None, copies: int) -> None:
    if buffer is None or buffer.space is not None:
        return
    buffer.properties["space"] = SpaceAttr(Space.SHARED if copies == 1 else Space.PARTS)
    if copies > 1:
        buffer.properties["copies"] = IntegerAttr(copies, i64)


def _at(event: int, op: exec.Kernel) -> dict[str, IntegerAttr]:
    return {"event": IntegerAttr(event, i64), "stream": IntegerAttr(stream_of(op), i64)}


class ScheduleStreams(Pass):
    name = "schedule-streams"
    help = "for a GPU: put predictions on a stream of their own, and say what waits for what"
    requires = (Form.KERNELS,)
    ensures = (Form.SCHEDULED,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for program in programs(module):
            schedule(program, ctx.parts)
