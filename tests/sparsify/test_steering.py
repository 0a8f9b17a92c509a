"""Which spend is tried next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsecomp.sparsify.steering import ENOUGH, GOAL, MOST_STEP, next_spend


def test_one_attempt_tells_by_how_much() -> None:
    assert next_spend([(0.004, 0.5)]) == pytest.approx(0.004 * GOAL / 0.5)
    assert next_spend([(0.004, 1.9)]) == pytest.approx(0.004 * GOAL / 1.9)
    assert next_spend([(0.004, 0.001)]) == 0.004 * MOST_STEP


def test_two_attempts_tell_what_does_not_depend_on_the_spend() -> None:
    # What is used is 0.3 and 60 a nat.
    assert next_spend([(0.005, 0.6), (0.008, 0.78)]) == pytest.approx((GOAL - 0.3) / 60)
    # Where it seems to fall, the last alone tells.
    assert next_spend([(0.005, 0.6), (0.008, 0.5)]) == pytest.approx(0.008 * GOAL / 0.5)


def test_it_ends() -> None:
    assert next_spend([(0.005, ENOUGH)]) is None
    assert next_spend([(0.005, 1.0)]) is None
    assert next_spend([(0.0100, 0.7), (0.0119, 1.1)]) is None  # nothing is left between them
    assert next_spend([(0.0100, 0.7), (0.0121, 1.1)]) is not None


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


@given(st.floats(0.0, 0.8), st.floats(0.1, 3.0))
def test_where_it_grows_along_a_line_three_attempts_are_enough(
    constant: float, growth: float
) -> None:
    tried = [(1.0, constant + growth)]
    while (spend := next_spend(tried)) is not None:
        tried.append((spend, constant + growth * spend))
    assert len(tried) <= 3
    assert ENOUGH <= tried[-1][1] <= 1
