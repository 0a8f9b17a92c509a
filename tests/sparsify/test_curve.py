"""The curve of a record: what other budgets would buy."""

from __future__ import annotations

from sparsecomp.runtime.record import CurvePoint
from sparsecomp.sparsify.report import falling


def test_a_plan_that_a_smaller_budget_beats_is_left_out() -> None:
    reads = [900, 700, 700, 817, 690, 769]
    points = [CurvePoint(0.01 * i, read) for i, read in enumerate(reads)]
    assert falling(points) == (points[0], points[1], points[4])
    assert falling([]) == ()
