"""The budget is kept and spent where it buys most; a block that does not pay stays dense."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsecomp import nibbles
from sparsecomp.errors import SparsecompError
from sparsecomp.opt import parse
from sparsecomp.options import Dtype
from sparsecomp.passes.allocate_sparsity import AllocateSparsity, Point, allocate, hull
from sparsecomp.passes.base import PassContext
from sparsecomp.passes.cost import ADDED, BARRIER, LISTED, SCANNED, BlockCost, Unit
from sparsecomp.sparsity import Approximate, Cutoff, Exact, LowRank, Narrow, Option, Plan

ANY = Cutoff(of=Exact.NEURON, threshold=0.0, density=0.5)
NUMBERS = st.integers(0, 10**8).map(lambda millionths: millionths / 1e6)
"""No smaller steps: where products and slopes underflow, nothing is steeper than anything."""
OPTIONS = st.dictionaries(
    st.sampled_from("abcd"),
    st.lists(st.builds(Point, st.just(ANY), NUMBERS, NUMBERS), max_size=5).map(
        lambda points: [Point(None, 0.0, 50.0), *points]
    ),
)


@given(OPTIONS, st.floats(0, 300, allow_nan=False))
def test_the_budget_is_kept_and_nothing_gets_slower(
    options: dict[str, list[Point]], budget: float
) -> None:
    chosen = allocate(options, budget)
    assert chosen.keys() == options.keys()
    assert sum(point.nats for point in chosen.values()) <= budget + 1e-9
    assert all(point.time <= 50.0 and point in options[name] for name, point in chosen.items())


@given(OPTIONS)
def test_without_a_limit_each_block_is_as_fast_as_it_can_be(
    options: dict[str, list[Point]],
) -> None:
    for name, point in allocate(options, float("inf")).items():
        assert point.time == min(p.time for p in options[name])


@given(st.lists(st.builds(Point, st.just(ANY), NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_a_hull_gets_flatter(points: list[Point]) -> None:
    kept = hull(points)
    slopes = [(a.time - b.time) / (b.nats - a.nats) for a, b in itertools.pairwise(kept)]
    assert all(slope > 0 for slope in slopes)
    assert all(a >= b * (1 - 1e-9) for a, b in itertools.pairwise(slopes))


def test_the_steepest_step_is_taken_first() -> None:
    dense = Point(None, 0.0, 10.0)
    steep, flat = Point(ANY, 1.0, 2.0), Point(ANY, 1.0, 9.0)
    assert allocate({"a": [dense, flat], "b": [dense, steep]}, 1.0) == {"a": dense, "b": steep}


MODULE = """
aten.weight @up : tensor<1024x64xf32>
aten.weight @down : tensor<64x1024xf32>
func.func @decode(%x: tensor<1x64xf32>) -> tensor<1x64xf32> {
  %0 = spz.mlp %x, @up, @down {module = "mlp", act = #spz<act relu>}
    : tensor<1x64xf32> -> tensor<1x64xf32>
  func.return %0 : tensor<1x64xf32>
}
"""


def allocated(plan: Plan, dtype: Dtype = Dtype.BF16) -> str:
    module = parse(MODULE)
    ctx = PassContext(
        evaluate=None,  # type: ignore[arg-type]
        weights=None,  # type: ignore[arg-type]
        positions=1,
        dtype=dtype,
        plan=plan,
    )
    AllocateSparsity()(module, ctx)
    return str(module)


def test_a_block_that_does_not_pay_stays_dense() -> None:
    # 256 KB of weights: a predictor of rank 64 and two barriers cost more than they save.
    slow = LowRank(rank=64, density=0.9, active=0.9)
    fast = Cutoff(of=Exact.NEURON, threshold=0.0, density=0.1)
    assert "sparsity" not in allocated(Plan({"mlp": (Option(slow, 0.0),)}))
    assert "sparsity<low_rank" in allocated(Plan({"mlp": (Option(slow, 0.0),)}, forced=True))
    assert "sparsity<cutoff" in allocated(Plan({"mlp": (Option(slow, 0.0), Option(fast, 0.0))}))
    assert "sparsity" not in allocated(Plan({"mlp": (Option(fast, 0.2),)}, budget=0.1))


def test_fewer_bits_are_taken_as_far_as_the_budget_goes() -> None:
    input_side, both = Narrow(bits=6, output_bits=8), Narrow(bits=6, output_bits=6)
    options = {"mlp": (Option(input_side, 0.01), Option(both, 0.05))}
    assert "sparsity" not in allocated(Plan(options, budget=0.009), Dtype.INT8)
    wanted = "sparsity<narrow, bits = 6, output_bits = {}, key_value_bits = 0>"
    assert wanted.format(8) in allocated(Plan(options, budget=0.03), Dtype.INT8)
    assert wanted.format(6) in allocated(Plan(options, budget=0.06), Dtype.INT8)
    # It competes with what leaves neurons unread.
    few = Option(Cutoff(of=Exact.NEURON, threshold=0.0, density=0.01), 0.02)
    both_kinds = Plan({"mlp": (*options["mlp"], few)}, budget=0.06)
    assert "sparsity<cutoff" in allocated(both_kinds, Dtype.INT8)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(SparsecompError, match=r"^mpl: .* did you mean mlp\?$"):
        allocated(Plan({"mpl": (Option(ANY, 0.0),)}))


def test_what_a_block_reads() -> None:
    # A gated MLP in bf16: 100 neurons with two rows of 8 and a column of 6.
    cost = BlockCost(100, 8, Unit(16, 2, 12), Dtype.BF16)
    low_rank = LowRank(rank=4, density=0.5, active=0.25)
    gate = Cutoff(of=Exact.GATE, threshold=1.0, density=0.5)
    neuron = Cutoff(of=Exact.NEURON, threshold=1.0, density=0.5)
    assert cost.bytes(None) == 100 * 44
    assert cost.bytes(low_rank) == 4 * 108 * 2 + 400 + 50 * 16 + 25 * 28
    like = Approximate(rank=4, threshold=1.0, density=0.5, active=0.25)
    assert cost.bytes(like) == 4 * 8 * 2 + 100 * (2 * 4 * 2 + 4) + 50 * 16 + 25 * 28
    assert cost.bytes(gate) == 100 * 16 + 50 * 28
    assert cost.bytes(neuron) == 100 * 32 + 50 * 12
    wide = Approximate(rank=64, threshold=1.0, density=0.0, active=0.0)
    for dtype in (Dtype.INT8, Dtype.INT4):  # the basis in 8 bits, gate and up in 4
        quantised = BlockCost(100, 128, Unit(16, 2, 12), dtype).bytes(wide)
        basis, row = nibbles.row_bytes(128, 8), nibbles.row_bytes(64, 4)
        assert quantised == 64 * basis + 100 * (2 * row + 4)
    listed = 50 * 12
    assert cost.cost(neuron) == 100 * 32 + listed + 50 * LISTED + 100 * SCANNED + BARRIER


def test_a_quantised_column_costs_more_than_its_bytes() -> None:
    """It is widened and added up; the dense MLP beside it is multiplied by rows."""
    cut = Cutoff(of=Exact.GATE, threshold=0.5, density=0.25)
    wide, narrow = (
        BlockCost(100, 128, Unit(16, 2, 12), dtype) for dtype in (Dtype.BF16, Dtype.INT8)
    )
    assert narrow.bytes(cut) == wide.bytes(cut)
    added = 100 * 0.25 * 12 * (ADDED - 1)
    assert narrow.cost(cut) - wide.cost(cut) == pytest.approx(added) and added > 0
    assert narrow.cost(None) == wide.cost(None)
