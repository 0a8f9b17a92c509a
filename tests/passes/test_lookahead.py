"""Schedules with predictions beside other work: the task graph, its times, and what breaks them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import networkx as nx
import pytest
from xdsl.ir import Operation

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Mode, WorkAttr, buffer_of
from sparsecomp.opt import parse
from sparsecomp.options import Overlap
from sparsecomp.passes.base import PassContext
from sparsecomp.passes.forms import programs
from sparsecomp.passes.machine import Machine
from sparsecomp.passes.plan_memory import PlanMemory
from sparsecomp.passes.races import race
from sparsecomp.passes.schedule_lookahead import ScheduleLookahead
from sparsecomp.passes.schedule_workers import ScheduleWorkers
from sparsecomp.passes.tasks import (
    critical_path,
    kernels,
    latest_sections,
    predicted,
    predictions,
    sections,
    task_graph,
    timeline,
)

TEXT = Path(__file__).with_name("schedule-lookahead.mlir").read_text()
"""One prediction that is needed three sections later, and one that is needed at once."""
MACHINE = Machine(bandwidth=10.0, apart=0.0, barrier=1000.0, kernel=0.0, start=0.0, element=0.0)


def no_weights(name: str) -> object:
    raise AssertionError(name)


CONTEXT = PassContext(evaluate=no_weights, weights=no_weights, positions=8, workers=2)  # type: ignore[arg-type]


def scheduled(overlap: Overlap | None = None) -> exec.Program:
    """@decode with offsets; without `overlap` as schedule-workers leaves it."""
    module = parse(TEXT)
    ScheduleWorkers().apply(module, CONTEXT)
    if overlap is not None:
        ScheduleLookahead().apply(module, replace(CONTEXT, overlap=overlap))
    PlanMemory().apply(module, CONTEXT)
    return list(programs(module))[1]


def barriers(program: exec.Program) -> list[exec.Barrier]:
    return [op for op in program.body.block.ops if isinstance(op, exec.Barrier)]


def named(program: exec.Program, name: str) -> exec.Kernel:
    """The kernel that writes the buffer of this name."""
    return next(k for k in kernels(program) if written(k) == name)


def written(op: exec.Kernel) -> str | None:
    """The name of the buffer that a kernel writes."""
    return next((value.name_hint for value in op.outputs), None)


def test_what_only_lists_depend_on_is_a_prediction() -> None:
    program = scheduled()
    names = {written(op) for op in predictions(program)}
    assert names == {"early", "scores", "list", "late", "rates", "chosen"}


def test_waits_are_the_most_on_a_way_through() -> None:
    program = scheduled()
    graph = task_graph(program)
    at, latest = sections(graph), latest_sections(graph)
    found = {written(op): (at[op], latest[op]) for op in at}
    assert found == {
        "x": (0, 0),
        "early": (0, 1),
        "scores": (1, 2),
        "list": (2, 3),
        "a": (0, 0),
        "b": (1, 1),
        "c": (2, 2),
        "first": (3, 3),
        "d": (4, 4),
        "late": (4, 4),
        "rates": (5, 5),
        "chosen": (6, 6),
        "second": (6, 6),
    }


def test_edges_that_others_imply_are_left_out() -> None:
    graph = task_graph(scheduled())
    assert set(graph.edges) == set(nx.transitive_reduction(graph).edges)
    waits = [
        (written(before), written(after))
        for before, after, waits in graph.edges(data="waits")
        if waits
    ]
    assert sorted(waits) == [
        ("a", "b"),
        ("b", "c"),
        ("c", "first"),
        ("early", "scores"),
        ("first", "d"),
        ("late", "rates"),
        ("rates", "chosen"),
        ("scores", "list"),
    ]


def test_barriers_are_the_fewest() -> None:
    """None can be left out, and predictions have none of their own."""
    assert len(barriers(scheduled())) == 8
    program = scheduled(Overlap())
    assert race(program) is None
    assert len(barriers(program)) == 6 == max(sections(task_graph(program)).values())
    for number in range(6):
        program = scheduled(Overlap())
        barriers(program)[number].detach()
        assert race(program) is not None


@pytest.mark.parametrize(
    ("overlap", "waits", "idle", "queued"),
    [(Overlap(False, False), 8, 0, 0), (Overlap(fill=False), 6, 0, 0), (Overlap(), 6, 1, 2)],
)
def test_each_use_by_itself(overlap: Overlap, waits: int, idle: int, queued: int) -> None:
    program = scheduled(overlap)
    modes = [op.work_of.mode for op in kernels(program)]
    assert len(barriers(program)) == waits
    assert (modes.count(Mode.IDLE), modes.count(Mode.QUEUE)) == (idle, queued)
    assert race(program) is None


# ---- broken by hand ----


def queues(program: exec.Program) -> list[exec.Kernel]:
    return [op for op in kernels(program) if op.work_of.mode is Mode.QUEUE]


def moved(program: exec.Program, op: exec.Kernel, after: Operation) -> None:
    op.detach()
    program.body.block.insert_op_after(op, after)


def test_a_list_made_before_its_scores_are_complete() -> None:
    program = scheduled(Overlap())
    select = named(program, "list")
    moved(program, select, queues(program)[1])
    assert race(program) is select


def test_a_prediction_begun_before_what_it_reads_is_complete() -> None:
    program = scheduled(Overlap())
    idle = named(program, "scores")
    assert idle.work_of.mode is Mode.IDLE
    moved(program, idle, named(program, "early"))
    assert race(program) is idle


def test_idle_work_that_does_not_go_on() -> None:
    """Who began the scores while waiting may write them after the barrier, unseen."""
    program = scheduled(Overlap())
    queues(program)[1].detach()
    assert race(program) is named(program, "scores")


def test_scores_over_a_buffer_that_is_still_read() -> None:
    """The workers that still read %a would find scores there."""
    program = scheduled(Overlap())
    a, scores = (buffer_of(named(program, name).operands[-1]) for name in ("a", "scores"))
    assert a is not None and scores is not None and a.offset is not None
    scores.properties["offset"] = a.offset
    assert race(program) is scores


def test_idle_work_into_what_is_read_beside_it() -> None:
    program = scheduled(Overlap())
    idle, b = named(program, "scores"), named(program, "b")
    idle.operands[1] = b.operands[0]
    assert race(program) is idle


# ---- times ----


def test_idle_time_is_filled() -> None:
    """With three quarters of %b worker 0 leaves worker 1 more time than the scores take."""
    program = scheduled(Overlap())
    b, idle = named(program, "b"), named(program, "scores")
    b.properties["work"] = WorkAttr.of(Mode.SPLIT, [0, 192, 256])
    spans = {(span.op, span.worker): span for span in timeline(program, MACHINE)}
    whole, queued = 256 * 256 * 4 / 10, 256 * 128 * 4 / 10
    took = {key: span.end - span.start for key, span in spans.items()}
    assert took[b, 0] == pytest.approx(0.75 * whole)
    assert took[b, 1] == pytest.approx(0.25 * whole)
    assert (idle, 0) not in spans and took[idle, 1] == pytest.approx(queued)
    barrier = barriers(program)[1]
    assert took[barrier, 0] == took[barrier, 1] == pytest.approx(MACHINE.barrier)


def test_what_is_left_of_a_queue_levels_out() -> None:
    program = scheduled(Overlap())
    c, queue = named(program, "c"), queues(program)[1]
    c.properties["work"] = WorkAttr.of(Mode.SPLIT, [0, 144, 256])
    spans = {(span.op, span.worker): span for span in timeline(program, MACHINE)}
    whole, queued = 256 * 256 * 4 / 10, 256 * 128 * 4 / 10
    assert spans[queue, 0].end == pytest.approx(spans[queue, 1].end)
    assert spans[queue, 0].end - spans[c, 0].start == pytest.approx((whole + queued) / 2)


def test_moving_predictions_is_predicted_to_pay() -> None:
    """Two barriers fewer; the same bytes."""
    apart = predicted(scheduled(), MACHINE)
    together = predicted(scheduled(Overlap()), MACHINE)
    assert apart - together == pytest.approx(2 * MACHINE.barrier)


def test_the_critical_path_does_not_lead_through_early_predictions() -> None:
    program = scheduled(Overlap())
    path, length = critical_path(task_graph(program), MACHINE, 2)
    names = [written(op) for op in path]
    assert names == ["x", "a", "b", "c", "first", "d", "late", "rates", "chosen", "second"]
    assert length < predicted(program, MACHINE)


def test_a_position_more_costs_its_keys_and_values() -> None:
    text = """
    exec.storage @t.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 8, 16>, of = [@t]}
    exec.kv_slot 0 : i64 {groups = 2 : i64, key = 8 : i64, value = 8 : i64}
    exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
      %q = exec.buffer {space = #exec<space private>} : memref<1x2x8xf32>
      exec.embed @t.rows into %q {index = #exec<index tokens>, work = #exec.work<each>} : memref<1x2x8xf32>
      %a = exec.buffer {space = #exec<space parts>} : memref<1x2x32xf32>
      exec.attend %q from 0 : i64 into %a {scale = 1.0 : f64, work = #exec.work<context>} : memref<1x2x8xf32>, memref<1x2x32xf32>
    }
    """  # noqa: E501
    (program,) = programs(parse(text))
    machine = replace(MACHINE, head=0.0)
    times = [predicted(program, replace(machine, context=n)) for n in (100, 101)]
    assert times[1] - times[0] == pytest.approx(2 * 16 * 4 / 10 / 2)


def test_turns_are_whole_lines_of_the_result() -> None:
    """So that no two workers write one."""
    turns = [op.work_of.bounds[0] for op in queues(scheduled(Overlap()))]
    assert [units * 4 % exec.LINE for units in turns] == [0, 0]
