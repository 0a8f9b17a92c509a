"""The task graph of a scheduled program: what comes before what, who waits, how long it takes.

A task is a kernel. An edge leads to a kernel from each that must come before it; it *waits* where
another worker may be the one to finish first. Waiting is for all workers, at a barrier: so tasks
fall into sections, and the fewest barriers are the most waits on a way through the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx
from xdsl.ir import Operation, SSAValue

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Mode, buffer_of

from .machine import Machine
from .schedule_workers import all_reduces, reads, writes_for_others
from .streams import each

Place = Operation | int
"""A buffer, or the number of a cache slot."""


def kernels(program: exec.Program) -> list[exec.Kernel]:
    return [op for op in program.body.block.ops if isinstance(op, exec.Kernel)]


def task_graph(program: exec.Program) -> nx.DiGraph:
    """The kernels of a program and the edges between them, which have `waits`, a bool.

    Edges that others imply are left out, so what waits is the least that must.
    """
    graph = nx.DiGraph()
    readers: dict[Place, list[exec.Kernel]] = {}
    writers: dict[Place, list[exec.Kernel]] = {}
    tasks = kernels(program)
    for op in tasks:
        graph.add_node(op)
        for place in _touched(op):
            for before in writers.get(place, ()):
                _edge(graph, before, op, place in writes_for_others(before) & reads(op))
        for place in _written(op):
            for before in readers.get(place, ()):
                _edge(graph, before, op, place in writes_for_others(op))
            for before in writers.get(place, ()):
                _edge(graph, before, op, False)
            writers.setdefault(place, []).append(op)
        for place in _touched(op):
            readers.setdefault(place, []).append(op)
    for one, next_one in pairwise(all_reduces(tasks)):
        _edge(graph, one, next_one, False)  # every rank adds up in the same order
    return _reduced(graph)


def sections(graph: nx.DiGraph) -> dict[exec.Kernel, int]:
    """How many barriers must stand before each task: the most waits on a way to it."""
    found: dict[exec.Kernel, int] = {}
    for op in nx.topological_sort(graph):
        edges = graph.in_edges(op, data="waits")
        found[op] = max((found[before] + waits for before, _, waits in edges), default=0)
    return found


def latest_sections(graph: nx.DiGraph) -> dict[exec.Kernel, int]:
    """How many barriers may stand before each task without adding one."""
    last = max(sections(graph).values(), default=0)
    latest: dict[exec.Kernel, int] = {}
    for op in reversed(list(nx.topological_sort(graph))):
        edges = graph.out_edges(op, data="waits")
        latest[op] = min((latest[after] - waits for _, after, waits in edges), default=last)
    return latest


def predictions(program: exec.Program) -> set[exec.Kernel]:
    """The kernels on which only lists of chosen units depend, the selections among them; launches
    that leave nothing else, too."""
    found: set[exec.Kernel] = set()
    readers: dict[exec.Buffer | None, list[exec.Kernel]] = {}
    for op in reversed(kernels(program)):
        lists = {k.out for k in each(op) if isinstance(k, exec.Select)}
        others = [value for value in op.outputs if value not in lists]
        uses = [use for value in others for use in readers.get(buffer_of(value), ())]
        if (lists or uses) and all(use in found for use in uses):
            found.add(op)
        for value in op.inputs:
            readers.setdefault(buffer_of(value), []).append(op)
    return found


def critical_path(
    graph: nx.DiGraph, machine: Machine, workers: int
) -> tuple[list[exec.Kernel], float]:
    """The tasks that bound a program's time however they are placed, and their nanoseconds."""

    def takes(op: exec.Kernel) -> float:
        return max(machine.nanoseconds(op, w, workers) for w in range(workers))

    weighed, end = nx.DiGraph(), "end"
    for op in graph.nodes:
        weighed.add_edge(op, end, ns=takes(op))
    for before, after, waits in graph.edges(data="waits"):
        weighed.add_edge(before, after, ns=takes(before) + waits * machine.barrier)
    path = nx.dag_longest_path(weighed, weight="ns")
    return path[:-1], sum(weighed.edges[edge]["ns"] for edge in pairwise(path))


@dataclass(frozen=True)
class Span:
    """A worker at a kernel, or waiting at a barrier (`op` is that), in nanoseconds from the
    beginning of the step."""

    op: exec.Kernel | exec.Barrier
    worker: int
    start: float
    end: float


def timeline(program: exec.Program, machine: Machine) -> list[Span]:
    """When each worker is predicted to do what, in the program's order for each worker."""
    clock = _Clock(1 if program.workers is None else program.workers.value.data, machine)
    for op in program.body.block.ops:
        if isinstance(op, exec.Barrier):
            clock.wait(op)
        elif isinstance(op, exec.Kernel):
            clock.run(op)
    return clock.spans


class _Clock:
    """`free`: when each worker is done with what it has. `left`: nanoseconds of work left in each
    queue, by what it writes. `idle`: what is done while waiting for the next barrier."""

    def __init__(self, workers: int, machine: Machine):
        self.machine = machine
        self.spans: list[Span] = []
        self.free = [0.0] * workers
        self.left: dict[SSAValue, float] = {}
        self.idle: list[exec.Kernel] = []

    def run(self, op: exec.Kernel) -> None:
        workers = len(self.free)
        if op.is_idle:
            self.left.setdefault(op.operands[-1], self.machine.whole(op))
            self.idle.append(op)
        elif op.work_of.mode is Mode.QUEUE:
            left = self.left.pop(op.operands[-1], self.machine.whole(op))
            self._until(op, _level(self.free, left))
        else:
            takes = [self.machine.nanoseconds(op, w, workers) for w in range(workers)]
            self._until(op, [f + t for f, t in zip(self.free, takes, strict=True)])

    def wait(self, barrier: exec.Barrier) -> None:
        last = max(self.free)
        for op in self.idle:
            ends = list(self.free)
            for worker, free in enumerate(self.free):
                done = min(self.left[op.operands[-1]], last - free)
                self.left[op.operands[-1]] -= done
                ends[worker] += done
            self._until(op, ends)
        self.idle.clear()
        self._until(barrier, [last + self.machine.barrier] * len(self.free))

    def _until(self, op: exec.Kernel | exec.Barrier, ends: Sequence[float]) -> None:
        for worker, (start, end) in enumerate(zip(self.free, ends, strict=True)):
            if end > start:
                self.spans.append(Span(op, worker, start, end))
        self.free = list(ends)


def predicted(program: exec.Program, machine: Machine) -> float:
    """Nanoseconds that a step is predicted to take."""
    return max((span.end for span in timeline(program, machine)), default=0.0)


def _level(free: Sequence[float], work: float) -> list[float]:
    """When each worker is done when whoever is free takes the next of so much work."""
    begins = sorted(free)
    for count in range(len(begins), 0, -1):
        end = (work + sum(begins[:count])) / count
        if end >= begins[count - 1]:
            break
    return [max(begin, end) for begin in free]


def _touched(op: exec.Kernel) -> set[Place]:
    """What a kernel reads, of a cache also what it wrote itself."""
    own = {op.slot.value.data} if isinstance(op, exec.Attend) else set()
    return reads(op) | own


def _written(op: exec.Kernel) -> set[Place]:
    if isinstance(op, exec.Append):
        return {op.slot.value.data}
    return {b for v in op.outputs if (b := buffer_of(v)) is not None}


def _edge(graph: nx.DiGraph, before: exec.Kernel, after: exec.Kernel, waits: bool) -> None:
    known = graph.get_edge_data(before, after, {"waits": False})
    graph.add_edge(before, after, waits=waits or known["waits"])


def _reduced(graph: nx.DiGraph) -> nx.DiGraph:
    """Without the edges that another way implies; one that waits is implied by a way that does."""
    kept = nx.DiGraph()
    kept.add_nodes_from(graph.nodes)
    behind: dict[exec.Kernel, set[exec.Kernel]] = {}  # all that come after
    waited: dict[exec.Kernel, set[exec.Kernel]] = {}  # those with a wait in between
    for op in reversed(list(nx.topological_sort(graph))):
        edges = [(after, waits) for _, after, waits in graph.out_edges(op, data="waits")]
        for after, waits in edges:
            ways = (behind[x] if w or not waits else waited[x] for x, w in edges)
            if not any(after in way for way in ways):
                kept.add_edge(op, after, waits=waits)
        behind[op] = set().union(*({after} | behind[after] for after, _ in edges))
        waited[op] = set().union(*({x} | behind[x] if w else waited[x] for x, w in edges))
    return kept
