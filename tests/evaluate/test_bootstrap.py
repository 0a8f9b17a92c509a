"""Intervals: where they lie, how wide they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.bootstrap import Bootstrap, Estimate, exp_mean, mean, quantile


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count)


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    values = noise(2000)
    found = Bootstrap(np.arange(2000)).estimate(mean(values))
    half = 1.96 * values.std() / np.sqrt(2000)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(20, 200))
def test_intervals_hold_the_value_and_shrink(seed: int, count: int) -> None:
    def width(values: np.ndarray) -> float:
        found = Bootstrap(np.arange(len(values))).estimate(exp_mean(values))
        assert found.low < found.value < found.high
        return found.high - found.low

    values = noise(count, seed)
    assert width(np.tile(values, 9)) == pytest.approx(width(values) / 3, rel=0.4)


def test_copies_within_a_unit_add_no_certainty() -> None:
    values = noise(100)
    single = Bootstrap(np.arange(100)).estimate(mean(values))
    copied = Bootstrap(np.repeat(np.arange(100), 8)).estimate(mean(np.repeat(values, 8)))
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high))


def test_all_statistics_see_the_same_resamples() -> None:
    bootstrap, values = Bootstrap(np.arange(50)), noise(50)
    first, second = bootstrap.estimate(mean(values)), bootstrap.estimate(mean(values + 3))
    assert (second.low, second.high) == pytest.approx((first.low + 3, first.high + 3))
    # What differs by a constant differs by it with certainty.
    change = bootstrap.estimate(mean((values + 3) - values))
    assert (change.low, change.value, change.high) == pytest.approx((3, 3, 3))


def test_another_seed_draws_others() -> None:
    statistic = mean(noise(50))
    first, second = (Bootstrap(np.arange(50), seed=s).estimate(statistic) for s in (0, 1))
    assert first.value == second.value and first.low != second.low


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.sampled_from([0.5, 0.99, 1.0]))
def test_quantile_is_the_smallest_that_the_share_does_not_exceed(
    values: list[float], share: float
) -> None:
    array = np.array(values)
    found = quantile(array, share)(np.ones(len(values)))
    assert found in values
    assert (array <= found).sum() >= share * len(values) * (1 - 1e-9)
    assert (array < found).sum() <= share * len(values) * (1 + 1e-9)


def test_quantile_counts_weights() -> None:
    values = np.array([3.0, 1.0, 2.0])
    assert quantile(values, 0.5)(np.array([1.0, 8.0, 1.0])) == 1
    assert quantile(values, 0.5)(np.array([8.0, 1.0, 1.0])) == 3


def test_one_value_is_certain_and_one_unit_is_nothing() -> None:
    assert Bootstrap(np.arange(9)).estimate(mean(np.ones(9))) == Estimate(1, 1, 1)
    for units in (np.zeros(9, np.int64), np.zeros(0, np.int64)):
        with pytest.raises(SparsecompError, match="give more text"):
            Bootstrap(units)
