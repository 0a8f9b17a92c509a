"""Which spend is tried next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsecomp.sparsify.steering import ENOUGH, GOAL, MOST_STEP, RETREAT, next_spend


def test_one_attempt_tells_by_how_much() -> None:
    assert next_spend([(0.004, 0.5)]) == pytest.approx(0.004 * GOAL / 0.5)
    assert next_spend([(0.004, 1.9)]) == pytest.approx(0.004 * RETREAT / 1.9)
    assert next_spend([(0.004, 0.001)]) == 0.004 * MOST_STEP


def test_what_was_kept_or_not_is_not_passed_again() -> None:
    # In proportion 0.0113 and 0.0121: beyond what was too much, and below what was kept.
    assert next_spend([(0.010, 1.2), (0.007, 0.6)]) == pytest.approx((0.007 * 0.010) ** 0.5)
    assert next_spend([(0.0123, 0.8), (0.015, 1.2)]) == pytest.approx((0.0123 * 0.015) ** 0.5)


def test_it_ends() -> None:
    assert next_spend([(0.005, ENOUGH)]) is None
    assert next_spend([(0.005, 1.0)]) is None
    assert next_spend([(0.0100, 0.7), (0.0119, 1.1)]) is None  # nothing is left between them
    assert next_spend([(0.0100, 0.7), (0.0121, 1.1)]) is not None


def test_margins_that_do_not_shrink_leave_something_to_keep() -> None:
    # A ReLU model: 0.64 of the budget are margins.
    tried = [(0.005, 0.64 + 230 * 0.005)]
    while (spend := next_spend(tried)) is not None:
        tried.append((spend, 0.64 + 230 * spend))
    assert len(tried) <= 5
    assert max(used for _, used in tried if used <= 1) >= ENOUGH


USED = st.floats(0.001, 50.0)


@given(st.lists(USED, min_size=1, max_size=5), st.floats(1e-5, 0.1))
def test_the_next_lies_between_what_was_kept_and_what_was_not(
    used: list[float], first: float
) -> None:
    tried: list[tuple[float, float]] = []
    spend: float | None = first
    for share in used:
        if spend is None:
            break
        tried.append((spend, share))
        spend = next_spend(tried)
    if spend is not None:
        assert all(s < spend for s, u in tried if u <= 1)
        assert all(s > spend > 0 for s, u in tried if u > 1)


@given(st.floats(1.0, 1.3), st.floats(0.25, 3.0))
def test_where_it_grows_a_little_faster_than_in_proportion_five_attempts_are_enough(
    power: float, first: float
) -> None:
    tried = [(1.0, first)]
    while (spend := next_spend(tried)) is not None:
        tried.append((spend, first * spend**power))
    assert len(tried) <= 5
    assert any(0.75 <= used <= 1 for _, used in tried)
