"""A schedule on two streams: a missing wait, or bytes used too early, is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from test_races import CONTEXT, buffers
from xdsl.dialects.builtin import IntegerAttr, i64
from xdsl.ir import Operation

from sparsecomp.dialects import exec
from sparsecomp.errors import SparsecompError
from sparsecomp.opt import optimise, parse
from sparsecomp.passes.forms import programs
from sparsecomp.passes.plan_memory import PlanMemory
from sparsecomp.passes.races import race
from sparsecomp.passes.streams import stream_of, unordered

GOLDEN = Path(__file__).with_name("schedule-streams.mlir")
PLANNED = optimise(GOLDEN.read_text(), ["schedule-streams", "plan-memory"])
FUSED = optimise(GOLDEN.read_text(), ["fuse-selection", "schedule-streams", "plan-memory"])
"""The scores and the list of the prediction in one launch."""


def decode(text: str = PLANNED) -> exec.Program:
    _, program = programs(parse(text))
    return program


def named(program: exec.Program, name: str) -> exec.Buffer:
    return next(b for b in buffers(program) if b.result.name_hint == name)


def first(program: exec.Program, kind: type[Operation], number: int = 0) -> Operation:
    return [op for op in program.body.block.ops if isinstance(op, kind)][number]


def move(program: exec.Program, name: str, onto: str) -> None:
    named(program, name).properties["offset"] = named(program, onto).properties["offset"]


def test_a_safe_schedule() -> None:
    assert race(decode()) is None


@pytest.mark.parametrize(
    ("damage", "racing"),
    [
        # The prediction begins before the step does.
        (lambda p: first(p, exec.Wait).detach(), "exec.linear"),
        (lambda p: first(p, exec.Record).detach(), "exec.linear"),
        # The sparse MLP reads a list that may not be there yet.
        (lambda p: first(p, exec.Wait, 1).detach(), "exec.sparse_mlp"),
        (lambda p: first(p, exec.Record, 1).detach(), "exec.sparse_mlp"),
        # Nobody writes what it reads.
        (lambda p: first(p, exec.Embed).detach(), "exec.linear"),
        # The dense MLP goes on while the scores are made, and while they are read.
        (lambda p: move(p, "parts", "scores"), "exec.buffer"),
        # The rank is done with when the scores are, which only the side stream knows.
        (lambda p: move(p, "first", "rank"), "exec.buffer"),
        # Two that live at the same time.
        (lambda p: move(p, "second", "sparse"), "exec.buffer"),
    ],
)
def test_a_broken_schedule(damage: Callable[[exec.Program], None], racing: str) -> None:
    program = decode()
    damage(program)
    found = race(program)
    assert found is not None and found.name == racing


@pytest.mark.parametrize(
    ("damage", "racing"),
    [
        (lambda p: first(p, exec.Wait, 1).detach(), "exec.sparse_mlp"),
        # Nobody writes what it reads.
        (lambda p: first(p, exec.Linear).detach(), "exec.launch"),
        # Some programs of the launch read the rank while others write the list.
        (lambda p: move(p, "list", "rank"), "exec.buffer"),
        # The dense MLP goes on meanwhile.
        (lambda p: move(p, "list", "parts"), "exec.buffer"),
    ],
)
def test_a_broken_schedule_with_a_launch(
    damage: Callable[[exec.Program], None], racing: str
) -> None:
    program = decode(FUSED)
    (launch,) = (op for op in program.body.block.ops if isinstance(op, exec.Launch))
    assert launch.work_of.bounds == (1,) and race(program) is None
    damage(program)
    found = race(program)
    assert found is not None and found.name == racing


def test_a_wait_for_too_little() -> None:
    """The event stands for the scores, not for the list."""
    program = decode()
    record, scores = first(program, exec.Record, 1), first(program, exec.Linear, 1)
    record.detach()
    program.body.block.insert_op_after(record, scores)
    found = race(program)
    assert found is first(program, exec.SparseMlp)


def test_a_kernel_that_the_step_does_not_wait_for() -> None:
    program = decode()
    last = first(program, exec.Sum, 2)
    alone = exec.Wait.create(
        properties={"event": IntegerAttr(1, i64), "stream": IntegerAttr(1, i64)}
    )
    program.body.block.insert_op_before(alone, last)
    last.properties["work"] = exec.WorkAttr.of(exec.Mode.STREAM, [1])
    assert race(program) is last


def test_waits_that_follow_from_others_are_left_out() -> None:
    """Both kernels of %after read %x, and the second one the list: one wait each way does."""
    program = decode()
    waits = [op for op in program.body.block.ops if isinstance(op, exec.Wait)]
    assert [(w.event.value.data, w.stream.value.data) for w in waits] == [(0, 1), (1, 0)]


def test_plan_memory_refuses_what_does_not_wait() -> None:
    module = parse(PLANNED)
    _, program = programs(module)
    first(program, exec.Wait, 1).detach()
    with pytest.raises(SparsecompError, match=r"exec\.sparse_mlp.*wait"):
        PlanMemory()(module, CONTEXT)


def launches(name: str, *passes: str) -> exec.Program:
    """@decode of another golden file, after passes that make launches."""
    text = GOLDEN.with_name(f"{name}.mlir").read_text()
    _, program = programs(parse(optimise(text, [*passes, "schedule-streams", "plan-memory"])))
    assert race(program) is None
    return program


def test_a_launch_that_does_not_wait() -> None:
    """Two predictions at once, before what they are of is there."""
    program = launches("fuse-linears", "fuse-linears")
    first(program, exec.Wait).detach()
    found = race(program)
    assert isinstance(found, exec.Launch) and stream_of(found) == 1


def test_a_launch_that_writes_over_what_it_norms() -> None:
    """Its other programs may still be at it."""
    program = launches("fuse-norms", "fuse-norms")
    move(program, "parts", "x")
    assert race(program) is named(program, "parts")


APPENDED = """
exec.kv_slot 0 : i64 {groups = 1 : i64, key = 8 : i64, value = 8 : i64}
exec.program @prefill attributes {tile = 64 : i64, streams = 1 : i64} {
  exec.barrier
}
exec.program @decode attributes {tile = 1 : i64, streams = 2 : i64} {
  %x = exec.buffer : memref<1x1x8xf32>
  exec.ids %x {index = #exec<index tokens>, work = #exec.work<stream, [0]>} : memref<1x1x8xf32>
  %one = exec.buffer : memref<1x1x32xf32>
  exec.launch attributes {work = #exec.work<stream, [0]>} {
    exec.append %x, %x to 0 : i64 : memref<1x1x8xf32>, memref<1x1x8xf32>
    exec.attend %x from 0 : i64 into %one {scale = 1.0 : f64} : memref<1x1x8xf32>, memref<1x1x32xf32>
  }
  exec.record 0 : i64 {stream = 0 : i64}
  exec.wait 0 : i64 {stream = 1 : i64}
  %two = exec.buffer : memref<1x1x32xf32>
  exec.attend %x from 0 : i64 into %two {scale = 1.0 : f64, work = #exec.work<stream, [1]>} : memref<1x1x8xf32>, memref<1x1x32xf32>
  exec.record 1 : i64 {stream = 1 : i64}
  exec.wait 1 : i64 {stream = 0 : i64}
  %out = exec.buffer : memref<1x1x8xf32>
  exec.combine %one into %out {work = #exec.work<stream, [0]>} : memref<1x1x32xf32>, memref<1x1x8xf32>
}
"""  # noqa: E501


def test_a_launch_that_appends_and_another_reader() -> None:
    """It reads what it writes itself; another stream must wait for it."""
    _, program = programs(parse(APPENDED))
    assert unordered(program) is None
    record, launch = first(program, exec.Record), first(program, exec.Launch)
    record.detach()  # it now stands for what comes before the launch
    program.body.block.insert_op_before(record, launch)
    found = unordered(program)
    assert found is first(program, exec.Attend)
