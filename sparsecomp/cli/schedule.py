"""The schedule of an artifact's decode step: predicted, and as a trace beside what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparsecomp.errors import SparsecompError

if TYPE_CHECKING:
    from sparsecomp.dialects import exec
    from sparsecomp.evaluate.timing import TimedDecode
    from sparsecomp.passes.machine import Machine
    from sparsecomp.passes.tasks import Span
    from sparsecomp.runtime import Model, StepTime
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


@dataclass(frozen=True)
class Timelines:
    """A decode step as it is predicted for the bandwidth that was read meanwhile, and as timed."""

    spans: tuple[Span, ...]
    timed: TimedDecode

    @property
    def predicted(self) -> float:
        """Microseconds of the step."""
        return max((span.end for span in self.spans), default=0.0) / MICROSECOND

    @property
    def measured(self) -> float:
        """Microseconds of the step."""
        workers = self.timed.worker_steps
        return max(sum(step.seconds for step in steps) for steps in workers) * 1e6

    def summary(self) -> str:
        """Both in words, and what they stand on."""
        tokens = self.timed.lengths / MICROSECOND
        speeds = [bandwidth / 1e9 for bandwidth in self.timed.bandwidths]
        return (
            f"a step is predicted to take {self.predicted:,.0f} us and took "
            f"{self.measured / self.predicted:.2f} times that, {self.measured:,.0f} us (median of "
            f"{len(tokens)} tokens, {min(tokens):,.0f} to {max(tokens):,.0f}); between tokens its "
            f"weights were read at {self.timed.bandwidth / 1e9:.1f} GB/s (median of {len(speeds)} "
            f"times, {min(speeds):.1f} to {max(speeds):.1f})"
        )


def compare_timelines(model: Model, ids: Sequence[int], prompt: int) -> Timelines:
    """Time decode steps of `ids[prompt:]` after `ids[:prompt]`, and predict one.

    Raises SparsecompError where nothing times kernels, and for tokens that do not fit.
    """
    from sparsecomp.dialects.reads import places_read
    from sparsecomp.evaluate.timing import time_decode
    from sparsecomp.passes.machine import Machine
    from sparsecomp.passes.tasks import timeline

    program = decode_program(model.artifact)
    timed = time_decode(model, ids, places_read(program.body.block.ops), prompt=prompt)
    a_worker = timed.bandwidth / model.workers / 1e9
    machine = Machine(bandwidth=a_worker, context=timed.context)
    return Timelines(tuple(timeline(program, machine)), timed)


def write_trace(path: Path, timelines: Timelines) -> None:
    """Write both timelines as Chrome trace events, which Perfetto shows."""
    took = [[("predicted", *event) for event in _predicted(timelines.spans)]]
    took.append([("measured", *event) for event in _measured(timelines.timed.worker_steps)])
    events: list[dict[str, object]] = []
    for number, timed in enumerate(took):
        for process, worker, kernel, module, start, length in timed:
            name = {"name": "process_name", "ph": "M", "pid": number, "args": {"name": process}}
            if name not in events:
                events.append(name)
            event = {"name": kernel, "cat": process, "ph": "X", "pid": number, "tid": worker}
            events.append(event | {"ts": start, "dur": length, "args": {"module": module}})
    path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}), encoding="utf-8")


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
