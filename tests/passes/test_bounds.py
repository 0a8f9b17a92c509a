"""How units are shared out to workers."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sparsecomp.passes.schedule_workers import bounds_beside, even_bounds

PARTS = st.lists(st.tuples(st.integers(1, 200), st.integers(1, 600)), min_size=1, max_size=4)


@given(PARTS, st.integers(1, 9), st.sampled_from([1, 4, 16]))
def test_shares_beside_each_other_are_even_and_in_one_piece(
    parts: list[tuple[int, int]], workers: int, grain: int
) -> None:
    bounds = list(bounds_beside(parts, workers, grain))
    for of_part, (units, _) in zip(bounds, parts, strict=True):
        assert of_part[0] == 0 and of_part[-1] == units and len(of_part) == workers + 1
        assert all(a <= b for a, b in itertools.pairwise(of_part))
        assert all(bound % grain == 0 or bound == units for bound in of_part)
    # Laid end to end, what a worker has begins where that of the worker before ends.
    for w in range(1, workers):
        inside = [0 < of_part[w] < units for of_part, (units, _) in zip(bounds, parts, strict=True)]
        assert sum(inside) <= 1
        assert [of_part[w] > 0 for of_part in bounds] == sorted(
            (of_part[w] > 0 for of_part in bounds), reverse=True
        )
    # No share is off by more than a grain at either end, and padding at the end of each part.
    weight = sum(units * of_unit for units, of_unit in parts)
    slack = sum(grain * of_unit for _, of_unit in parts) + 2 * grain * max(w for _, w in parts)
    for w in range(workers):
        taken = sum(
            (of_part[w + 1] - of_part[w]) * of_unit
            for of_part, (_, of_unit) in zip(bounds, parts, strict=True)
        )
        assert abs(taken - weight / workers) <= slack


def test_who_begins_more_gets_less() -> None:
    # 2,240 each: the second of two begins two more, 320 each.
    parts = [(256, 10), (64, 10), (64, 10)]
    assert list(bounds_beside(parts, 2, 16)) == [[0, 192, 256], [0, 0, 64], [0, 0, 64]]
    assert list(bounds_beside(parts, 2, 16, 320)) == [[0, 224, 256], [0, 0, 64], [0, 0, 64]]
    # One each: nothing to make even.
    assert list(bounds_beside([(64, 10), (64, 10)], 2, 16, 320)) == [[0, 64, 64], [0, 0, 64]]


@given(st.integers(1, 5000), st.integers(1, 9), st.sampled_from([1, 4, 16]))
def test_of_one_part_the_weight_does_not_matter(units: int, workers: int, grain: int) -> None:
    assert [even_bounds(units, workers, grain)] == list(
        bounds_beside([(units, 37)], workers, grain)
    )
