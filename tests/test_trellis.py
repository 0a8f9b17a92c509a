"""Codes of 2 bits by a trellis: the nearest there are, what they leave as error, where they lie."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecomp import sketches, trellis
from sparsecomp.sketch_rounding import packed_sketch, rounded_sketch

MAX_ERROR = 0.1175
"""Of normal values, with the best four levels (Max, 1960)."""


def test_opposite_windows_have_opposite_levels_of_seven_bits() -> None:
    assert len(sketches.LEVELS) == sketches.TABLE_BYTES
    assert all(0 <= level <= 127 for level in sketches.LEVELS)
    pairs = zip(sketches.LEVELS, reversed(sketches.LEVELS), strict=True)
    assert all(level + opposite == 127 for level, opposite in pairs)


def test_a_level_is_chosen_by_a_code_and_the_two_before() -> None:
    codes = torch.tensor([[3, 0, 2, 1]], dtype=torch.uint8)
    windows = [0b110000, 0b001100, 0b100011, 0b011000]
    want = [sketches.LEVELS[window] - sketches.LEVEL_MIDDLE for window in windows]
    assert trellis.levels(codes).flatten().tolist() == want


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), steps=st.integers(1, 5), spread=st.sampled_from([5.0, 25.0, 90.0])
)
def test_no_other_codes_are_nearer(seed: int, steps: int, spread: float) -> None:
    values = spread * torch.randn(7, steps, generator=torch.Generator().manual_seed(seed))
    every = torch.tensor(list(itertools.product(range(4), repeat=steps)), dtype=torch.uint8)
    distances = (trellis.levels(every) - values[:, None]).square().sum(2)
    found = (trellis.levels(trellis.nearest(values)) - values).square().sum(1)
    torch.testing.assert_close(found, distances.amin(1), rtol=1e-4, atol=1e-3)


def test_streams_know_nothing_of_each_other() -> None:
    values = 25 * torch.randn(trellis.AT_ONCE + 3, 6, generator=torch.Generator().manual_seed(1))
    at = [0, 1, trellis.AT_ONCE - 1, trellis.AT_ONCE, trellis.AT_ONCE + 2]
    alone = torch.cat([trellis.nearest(values[i : i + 1]) for i in at])
    assert torch.equal(trellis.nearest(values)[at], alone)


def test_normal_values_keep_less_error_than_any_four_levels_leave() -> None:
    values = torch.randn(1000, 128, generator=torch.Generator().manual_seed(0))
    levels = trellis.levels(trellis.nearest(values * sketches.LEVELS_PER_DEVIATION))
    error = (levels / sketches.LEVELS_PER_DEVIATION - values).square().mean()
    assert float(error) == pytest.approx(0.0845, abs=0.001)
    assert float(error) < 0.73 * MAX_ERROR


def test_a_sketchs_scales_are_the_best_for_its_codes() -> None:
    """Of any size, in each group; rows of zeros stay so."""
    axes, random = sketches.FINE + sketches.GROUP + 40, torch.Generator().manual_seed(2)
    sizes = torch.tensor([1e-3, 1.0, 40.0, 0.0]).repeat(20)
    rows = torch.randn(80, axes, generator=random) * sizes[:, None]
    rows[:, sketches.FINE + sketches.GROUP :] *= 3
    values = rounded_sketch(rows).values(axes)
    assert (values[sizes == 0] == 0).all()
    rows, values, sizes = (of[sizes > 0] for of in (rows, values, sizes))
    for group, error in ((range(64), 0.0092), (range(64, 320), 0.0845), (range(320, 360), 0.068)):
        given, found = (of[:, group.start : group.stop] for of in (rows, values))
        left = (found - given).square().sum() / given.square().sum()
        assert float(left) == pytest.approx(error, rel=0.1)
        best = (given * found).sum(1) / found.square().sum(1)
        if len(group) == sketches.GROUP:  # fine codes are chosen once more, padding counts too
            torch.testing.assert_close(best, torch.ones(len(best)), rtol=5e-3, atol=0)


def test_the_table_comes_first() -> None:
    rows = rounded_sketch(torch.randn(37, 100, generator=torch.Generator().manual_seed(3)))
    data = packed_sketch(rows, torch.zeros(37))
    assert len(data) == sketches.sketch_bytes(37, 100)
    assert data[: sketches.TABLE_BYTES].tolist() == list(sketches.LEVELS)
