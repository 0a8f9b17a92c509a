"""A schedule that is not safe is seen, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import IntegerAttr, i64
from xdsl.ir import Operation

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Space
from sparsecomp.errors import SparsecompError
from sparsecomp.opt import parse
from sparsecomp.passes.base import PassContext
from sparsecomp.passes.forms import programs
from sparsecomp.passes.plan_memory import PlanMemory, Span, lives, place
from sparsecomp.passes.races import race

# Parts %c are summed by all workers; %f is shared, so %g must wait for it.
SCHEDULED = """
exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 16, 16>, of = [@table]}
exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = f32, shape = array<i64: 16, 16, 16>, of = [@up, @down]}
exec.program @prefill attributes {tile = 64 : i64, workers = 2 : i64} {
  %k = exec.buffer {space = #exec<space private>} : memref<?x2x8xf32>
  exec.embed @table.rows into %k {index = #exec<index tokens>, work = #exec.work<rows>} : memref<?x2x8xf32>
  exec.append %k, %k to 0 : i64 {work = #exec.work<rows>} : memref<?x2x8xf32>, memref<?x2x8xf32>
  exec.barrier
  %a = exec.buffer {space = #exec<space private>} : memref<?x2x8xf32>
  exec.attend %k from 0 : i64 into %a {scale = 1.0 : f64, work = #exec.work<rows>} : memref<?x2x8xf32>, memref<?x2x8xf32>
}
exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
  %a = exec.buffer {space = #exec<space private>} : memref<1x16xf32>
  exec.embed @table.rows into %a {index = #exec<index tokens>, work = #exec.work<each>} : memref<1x16xf32>
  %c = exec.buffer {space = #exec<space parts>} : memref<1x16xf32>
  exec.mlp %a, @mlp.neurons into %c {act = #spz<act relu>, work = #exec.work<split, [0, 8, 16]>} : memref<1x16xf32>, memref<1x16xf32>
  exec.barrier
  %d = exec.buffer {space = #exec<space private>} : memref<1x16xf32>
  exec.sum %c into %d {work = #exec.work<each>} : memref<1x16xf32>, memref<1x16xf32>
  %f = exec.buffer {space = #exec<space shared>} : memref<1x16xf32>
  exec.linear %d, @table.rows into %f {part = #exec<part other>, work = #exec.work<split, [0, 8, 16]>} : memref<1x16xf32>, memref<1x16xf32>
  exec.barrier
  %g = exec.buffer {space = #exec<space shared>} : memref<1x16xf32>
  exec.linear %f, @table.rows into %g {part = #exec<part other>, work = #exec.work<split, [0, 8, 16]>} : memref<1x16xf32>, memref<1x16xf32>
}
"""  # noqa: E501


def planned(change: Callable[[exec.Program], None] = lambda program: None) -> list[exec.Program]:
    """The two programs with offsets, @decode changed before."""
    module = parse(SCHEDULED)
    _, decode = programs(module)
    change(decode)
    PlanMemory().apply(module, CONTEXT)
    return list(programs(module))


def no_weights(name: str) -> object:
    raise AssertionError(name)


CONTEXT = PassContext(evaluate=no_weights, weights=no_weights, positions=8)  # type: ignore[arg-type]


def kernels(program: exec.Program) -> dict[str, Operation]:
    """By name; of several, the last."""
    return {op.name: op for op in program.body.block.ops}


def buffers(program: exec.Program) -> list[exec.Buffer]:
    return [op for op in program.body.block.ops if isinstance(op, exec.Buffer)]


def test_a_safe_schedule() -> None:
    assert [race(program) for program in planned()] == [None, None]


@pytest.mark.parametrize(
    ("program", "barrier", "racing"),
    [(0, 0, "exec.attend"), (1, 0, "exec.sum"), (1, 1, "exec.linear")],
)
def test_a_missing_barrier(program: int, barrier: int, racing: str) -> None:
    changed = planned()[program]
    barriers = [op for op in changed.body.block.ops if isinstance(op, exec.Barrier)]
    barriers[barrier].detach()
    found = race(changed)
    assert found is not None and found.name == racing


RANKS = """
exec.storage @table.rows {layout = #exec<layout rows>, element = f32, shape = array<i64: 16, 16>, of = [@table]}
exec.program @prefill attributes {tile = 64 : i64, workers = 2 : i64} {
  %x = exec.buffer {space = #exec<space shared>} : memref<?x16xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<rows>} : memref<?x16xf32>
  exec.barrier
  %sum = exec.buffer {space = #exec<space shared>} : memref<?x16xf32>
  exec.all_reduce %x : memref<?x16xf32> into %sum {work = #exec.work<one, [0]>} : memref<?x16xf32>
  exec.barrier
  %y = exec.buffer {space = #exec<space private>} : memref<?x16xf32>
  exec.norm %sum into %y {kind = #exec<norm_kind rms>, eps = 1.0 : f64, work = #exec.work<rows>} : memref<?x16xf32>, memref<?x16xf32>
}
exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
  %x = exec.buffer {space = #exec<space private>} : memref<1x16xf32>
  exec.embed @table.rows into %x {index = #exec<index tokens>, work = #exec.work<each>} : memref<1x16xf32>
}
"""  # noqa: E501


@pytest.mark.parametrize(("barrier", "racing"), [(0, "exec.all_reduce"), (1, "exec.norm")])
def test_sums_over_ranks_wait_for_all_rows_and_are_waited_for(barrier: int, racing: str) -> None:
    module = parse(RANKS)
    PlanMemory().apply(module, CONTEXT)
    prefill, _ = programs(module)
    assert race(prefill) is None
    assert [life.size for life in lives(prefill)] == [2 * 64 * 64, 2 * 64 * 64, 64 * 64]
    barriers = [op for op in prefill.body.block.ops if isinstance(op, exec.Barrier)]
    barriers[barrier].detach()
    found = race(prefill)
    assert found is not None and found.name == racing


def test_one_worker_need_not_wait() -> None:
    _, decode = planned()
    for op in list(decode.body.block.ops):
        if isinstance(op, exec.Barrier):
            op.detach()
    decode.properties["workers"] = IntegerAttr(1, i64)
    assert race(decode) is None


def test_a_write_over_what_others_still_read() -> None:
    """The second linear overwrites its own input, of which another worker reads all."""
    _, decode = planned()
    linear = kernels(decode)["exec.linear"]
    linear.operands[1] = linear.operands[0]
    assert race(decode) is linear


def test_shared_buffers_that_overlap() -> None:
    _, decode = planned()
    *_, f, g = buffers(decode)
    assert f.offset is not None and g.offset is not None
    f.properties["offset"] = IntegerAttr(g.offset.value.data + 32, i64)
    assert race(decode) is g


def test_bytes_used_again_too_early() -> None:
    """Another worker may still be summing %c when this one writes %d."""
    _, decode = planned()
    _, c, d, *_ = buffers(decode)
    assert c.offset is not None
    d.properties["offset"] = c.offset
    assert race(decode) is d


def test_plan_memory_refuses_what_does_not_wait() -> None:
    module = parse(SCHEDULED)
    _, decode = programs(module)
    next(op for op in decode.body.block.ops if isinstance(op, exec.Barrier)).detach()
    with pytest.raises(SparsecompError, match=r"exec\.sum.*wait"):
        PlanMemory()(module, CONTEXT)


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=12
    )
)
@settings(max_examples=100)
def test_no_two_that_live_together_share_bytes(given: list[tuple[int, int, int]]) -> None:
    lives = [
        Span(exec.Buffer.create(), 64 * size, first, first + length)
        for size, first, length in given
    ]
    total = place(lives)
    spans = []
    for life in lives:
        assert life.buffer.offset is not None
        offset = life.buffer.offset.value.data
        assert offset % 64 == 0 and 0 <= offset <= total - life.size
        spans.append((offset, offset + life.size, life.first, life.last))
    for i, (low, high, first, last) in enumerate(spans):
        for low2, high2, first2, last2 in spans[:i]:
            together = first <= last2 and first2 <= last
            assert not together or high <= low2 or high2 <= low
    busiest = max(
        sum(life.size for life in lives if life.first <= t <= life.last) for t in range(20)
    )
    assert busiest <= total <= sum(life.size for life in lives)


def test_private_buffers_of_a_prompt_hold_a_tile() -> None:
    prefill, decode = planned()
    sizes = [program.properties["private"].value.data for program in (prefill, decode)]  # type: ignore[attr-defined]
    assert sizes == [2 * 64 * 16 * 4, 2 * 16 * 4]
    shared = [b.offset for b in buffers(decode) if b.space == exec.SpaceAttr(Space.SHARED)]
    assert shared == [IntegerAttr(0, i64), IntegerAttr(64, i64)]
