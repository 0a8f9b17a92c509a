"""allocate-sparsity: which blocks become sparse, and how, for the quality there is to spend.

Every option of a block has a cost in nats a token (measured) and saves time on the target (from the
cost model). The budget is spent where it buys most: each block's options are thinned to the lower
convex hull of time over nats, and the steep steps are taken first. Where no option is faster than
the dense block, the block stays dense.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from sparsecomp.dialects import spz
from sparsecomp.errors import SparsecompError
from sparsecomp.sparsity import Choice, Option, Plan

from .base import Form, Pass, PassContext, functions
from .blocks import blocks, weight_shapes
from .cost import BlockCost


@dataclass(frozen=True)
class Point:
    """An option as the allocation sees it: nats spent and time taken; no choice is dense."""

    choice: Choice | None
    nats: float
    time: float


@dataclass(frozen=True)
class Step:
    """From one point of a block's hull to the next: more nats, less time."""

    block: str
    to: Point
    nats: float
    gain: float

    @property
    def rate(self) -> float:
        """Time saved for a nat."""
        return self.gain / self.nats if self.nats > 0 else float("inf")


def hull(points: Iterable[Point]) -> list[Point]:
    """The points worth choosing, cheapest in nats first, each step less steep than the last."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.nats, p.time)):
        if kept and point.time >= kept[-1].time:
            continue
        while len(kept) >= 2 and _steeper(kept[-2], kept[-1], point):
            kept.pop()
        if kept and kept[-1].nats == point.nats:
            kept.pop()
        kept.append(point)
    return kept


def _steeper(a: Point, b: Point, c: Point) -> bool:
    """Whether going from a straight to c saves as much per nat as going to b."""
    return (a.time - c.time) * (b.nats - a.nats) >= (a.time - b.time) * (c.nats - a.nats)


def allocate(options: Mapping[str, Sequence[Point]], budget: float) -> dict[str, Point]:
    """The point of each block: the steepest steps that fit into the budget of nats.

    `options` holds each block's dense point too. A block whose next step does not fit stops there.
    """
    hulls = {block: hull(points) for block, points in options.items()}
    chosen = {block: points[0] for block, points in hulls.items()}
    steps = [
        Step(block, b, b.nats - a.nats, a.time - b.time)
        for block, points in hulls.items()
        for a, b in itertools.pairwise(points)
    ]
    spent = sum(point.nats for point in chosen.values())
    stopped: set[str] = set()
    # Steps of one block come in order: its hull is convex, and the sort is stable.
    for step in sorted(steps, key=lambda s: -s.rate):
        if step.block in stopped:
            continue
        if spent + step.nats > budget:
            stopped.add(step.block)
            continue
        chosen[step.block] = step.to
        spent += step.nats
    return chosen


class AllocateSparsity(Pass):
    name = "allocate-sparsity"
    help = "choose which blocks become sparse, and how, within the budget"
    requires = (Form.ROWS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        if ctx.plan is None:
            return
        shapes = weight_shapes(module)
        for func in functions(module):
            if func.sym_name.data == "prefill":
                continue
            found = {block.module: block for block in blocks(func)}
            _check_names(ctx.plan, found)
            points = {
                name: _points(BlockCost.of(block, shapes, ctx.dtype), ctx.plan, name)
                for name, block in found.items()
            }
            if ctx.plan.forced:
                chosen = {name: given[-1] for name, given in points.items()}
            else:
                chosen = allocate(points, ctx.plan.budget)
            for name, point in chosen.items():
                if point.choice is not None:
                    found[name].op.attributes["sparsity"] = spz.SparsityAttr(point.choice)


def _points(cost: BlockCost, plan: Plan, name: str) -> list[Point]:
    given: Sequence[Option] = plan.options.get(name, ())
    return [
        Point(None, 0.0, cost.cost(None)),
        *(Point(o.choice, max(o.cost, 0.0), cost.cost(o.choice)) for o in given),
    ]


def _check_names(plan: Plan, found: Iterable[str]) -> None:
    names = list(found)
    for name in plan.options:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = (
                f"did you mean {close[0]}?" if close else f"there are {', '.join(names[:4])}, ..."
            )
            raise SparsecompError(f"{name}: the model has no MLP or attention of this name; {hint}")
