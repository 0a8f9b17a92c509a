"""The schedule of an artifact's decode step: predicted, and as a trace beside what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparsecomp.errors import SparsecompError

if TYPE_CHECKING:
    from sparsecomp.dialects import exec
    from sparsecomp.passes.machine import Machine
    from sparsecomp.passes.tasks import Span
    from sparsecomp.runtime import StepTime
    from sparsecomp.runtime.artifact import Artifact

MICROSECOND = 1e3
"""In nanoseconds."""


def decode_program(artifact: Artifact) -> exec.Program:
    """The scheduled @decode of an artifact. Raises SparsecompError where there is none."""
    from sparsecomp.opt import parse
    from sparsecomp.passes.forms import programs
    from sparsecomp.runtime.artifact import Stage, ir_member

    module = parse(artifact.read_text(ir_member(Stage.EXEC)))
    found = [program for program in programs(module) if program.sym_name.data == "decode"]
    if not found or found[0].workers is None:
        raise SparsecompError(f"{artifact.path}: has no scheduled @decode; compile it again")
    return found[0]


def print_schedule(program: exec.Program, machine: Machine) -> None:
    """Sections between barriers, who works on what in them, and the predicted microseconds. A `*`
    is on the critical path."""
    from sparsecomp.cli.tables import console, table
    from sparsecomp.dialects import exec
    from sparsecomp.passes.base import module_path
    from sparsecomp.passes.tasks import critical_path, predicted, task_graph, timeline

    assert program.workers is not None
    workers = program.workers.value.data
    path, bound = critical_path(task_graph(program), machine, workers)
    spans = {(span.op, span.worker): span for span in timeline(program, machine)}
    made = table(
        "decode step", "kernel", "of", "work", "", *(f"worker {w}, us" for w in range(workers))
    )
    sections = 1
    for op in program.body.block.ops:
        if isinstance(op, exec.Barrier):
            sections += 1
            made.add_section()
        elif isinstance(op, exec.Kernel):
            took = [spans.get((op, w)) for w in range(workers)]
            times = ["" if s is None else f"{(s.end - s.start) / MICROSECOND:.1f}" for s in took]
            kernel, mark = op.name.removeprefix("exec."), "*" if op in path else ""
            made.add_row(kernel, module_path(op), str(op.work_of.mode), mark, *times)
    out = console()
    out.print(made)
    out.print(
        f"{sections} sections; predicted {predicted(program, machine) / MICROSECOND:,.0f} us at "
        f"{machine.bandwidth:.1f} GB/s a worker and {machine.context} positions; the critical path "
        f"alone {bound / MICROSECOND:,.0f} us",
        soft_wrap=True,
    )


def write_trace(
    path: Path, spans: Sequence[Span], measured: Sequence[Sequence[StepTime]]
) -> tuple[float, float]:
    """Write both timelines as Chrome trace events, which Perfetto shows.

    `measured` are each worker's steps, one after the other. Returns the microseconds that a step is
    predicted to take, and took.
    """
    took = [[("predicted", *event) for event in _predicted(spans)]]
    took.append([("measured", *event) for event in _measured(measured)])
    events: list[dict[str, object]] = []
    for number, timed in enumerate(took):
        for process, worker, kernel, module, start, length in timed:
            name = {"name": "process_name", "ph": "M", "pid": number, "args": {"name": process}}
            if name not in events:
                events.append(name)
            event = {"name": kernel, "cat": process, "ph": "X", "pid": number, "tid": worker}
            events.append(event | {"ts": start, "dur": length, "args": {"module": module}})
    path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}), encoding="utf-8")
    ends = [max((e[4] + e[5] for e in timed), default=0.0) for timed in took]
    return ends[0], ends[1]


def _predicted(spans: Iterable[Span]) -> Iterator[tuple[int, str, str, float, float]]:
    """Worker, kernel, module, begin and length in microseconds."""
    from sparsecomp.passes.base import module_path

    for span in spans:
        kernel = span.op.name.removeprefix("exec.")
        start, end = span.start / MICROSECOND, span.end / MICROSECOND
        yield span.worker, kernel, module_path(span.op), start, end - start


def _measured(
    measured: Sequence[Sequence[StepTime]],
) -> Iterator[tuple[int, str, str, float, float]]:
    for worker, steps in enumerate(measured):
        start = 0.0
        for step in steps:
            length = step.seconds * 1e6
            yield worker, step.kernel, step.module, start, length
            start += length
