"""Codes by a trellis: the nearest there are, what they leave as error, where they lie."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecomp import sketches, trellis
from sparsecomp.sketch_rounding import (
    packed_refinement,
    packed_sketch,
    round_factors,
    rounded_cascade,
    rounded_sketch,
)
from sparsecomp.sketches import Trellis

BY_THEMSELVES = {2: 0.1175, 1: 0.363}
"""The error of normal values with the best four levels, and the best two (Max, 1960)."""
LEFT = {2: 0.0835, 1: 0.291}
"""By a trellis, over streams of 256."""

every_trellis = pytest.mark.parametrize("of", sketches.TRELLISES.values(), ids=lambda of: of.bits)


@every_trellis
def test_opposite_windows_have_opposite_levels_of_seven_bits(of: Trellis) -> None:
    assert len(of.levels) == sketches.TABLE_BYTES
    assert all(0 <= level <= 127 for level in of.levels)
    pairs = zip(of.levels, reversed(of.levels), strict=True)
    assert all(level + opposite == 127 for level, opposite in pairs)


@pytest.mark.parametrize(
    ("bits", "codes", "windows"),
    [
        (2, [3, 0, 2, 1], [0b110000, 0b001100, 0b100011, 0b011000]),
        (1, [1, 0, 0, 1, 1], [0b100000, 0b010000, 0b001000, 0b100100, 0b110010]),
    ],
)
def test_a_level_is_chosen_by_a_code_and_those_before(
    bits: int, codes: list[int], windows: list[int]
) -> None:
    of = sketches.TRELLISES[bits]
    want = [of.levels[window] - sketches.LEVEL_MIDDLE for window in windows]
    assert trellis.levels(torch.tensor([codes], dtype=torch.uint8), of).flatten().tolist() == want


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bits=st.sampled_from([2, 1]),
    steps=st.integers(1, 5),
    spread=st.sampled_from([5.0, 25.0, 90.0]),
)
def test_no_other_codes_are_nearer(seed: int, bits: int, steps: int, spread: float) -> None:
    of, steps = sketches.TRELLISES[bits], steps * 2 // bits
    values = spread * torch.randn(7, steps, generator=torch.Generator().manual_seed(seed))
    every = list(itertools.product(range(2**bits), repeat=steps))
    given = trellis.levels(torch.tensor(every, dtype=torch.uint8), of)
    distances = (given - values[:, None]).square().sum(2)
    found = (trellis.levels(trellis.nearest(values, of), of) - values).square().sum(1)
    torch.testing.assert_close(found, distances.amin(1), rtol=1e-4, atol=1e-3)


def test_streams_know_nothing_of_each_other() -> None:
    values = 25 * torch.randn(trellis.AT_ONCE + 3, 6, generator=torch.Generator().manual_seed(1))
    at, of = (
        [0, 1, trellis.AT_ONCE - 1, trellis.AT_ONCE, trellis.AT_ONCE + 2],
        sketches.TRELLISES[2],
    )
    alone = torch.cat([trellis.nearest(values[i : i + 1], of) for i in at])
    assert torch.equal(trellis.nearest(values, of)[at], alone)


@every_trellis
def test_normal_values_keep_less_error_than_levels_by_themselves_leave(of: Trellis) -> None:
    values = torch.randn(1000, 256, generator=torch.Generator().manual_seed(0))
    levels = trellis.levels(trellis.nearest(values * of.deviation, of), of)
    error = (levels / of.deviation - values).square().mean()
    assert float(error) == pytest.approx(LEFT[of.bits], rel=0.012)
    assert float(error) < 0.81 * BY_THEMSELVES[of.bits]


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


def test_a_refinement_says_what_a_first_sketch_leaves() -> None:
    """Of axes that this has, and of those that it has not; the last few are in neither."""
    axes, random = sketches.FINE + 512, torch.Generator().manual_seed(4)
    rows = torch.randn(100, axes, generator=random)
    rows[50:] = 0
    first, second = (part.values(axes) for part in rounded_cascade(rows))
    assert (first[50:] == 0).all() and (second[50:] == 0).all()
    first, second, rows = first[:50], second[:50], rows[:50]
    assert (first[:, 320:] == 0).all() and (second[:, :64] == 0).all()
    assert (second[:, 560:] == 0).all() and second[:, 559].abs().min() > 0
    left = ((first + second - rows).square()).mean(0)
    assert float(left[:64].mean()) == pytest.approx(0.0092, rel=0.15)
    # A line has axes of both kinds, and one scale: levels are made for what is normal.
    assert float(left[64:312].mean()) == pytest.approx(0.291 * 0.085, rel=0.25)
    assert float(left[320:560].mean()) == pytest.approx(0.085, rel=0.1)


def test_axes_of_no_group_are_not_multiplied() -> None:
    x = torch.randn(3, 700, generator=torch.Generator().manual_seed(5))
    groups = sketches.refined_groups(700)
    assert [(group.start, group.stop) for group in groups] == [(64, 312), (312, 560), (560, 808)]
    rounded = round_factors(x, groups)
    assert (rounded[:, :64] == 0).all()
    steps = rounded[:, 64:312] / (x[:, 64:312].abs().amax(1, keepdim=True) / 127)
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    assert float((rounded - x)[:, 64:].abs().max()) < 0.02


@pytest.mark.parametrize("bits", [2, 1])
def test_the_table_comes_first(bits: int) -> None:
    random = torch.Generator().manual_seed(3)
    data = packed_sketch(
        rounded_sketch(torch.randn(37, 100, generator=random), bits), torch.zeros(37)
    )
    assert len(data) == sketches.sketch_bytes(37, 100, bits)
    assert data[: sketches.TABLE_BYTES].tolist() == list(sketches.TRELLISES[bits].levels)


def test_a_row_of_a_refinement_is_whole_lines() -> None:
    _, refined = rounded_cascade(torch.randn(37, 700, generator=torch.Generator().manual_seed(6)))
    data = packed_refinement(refined)
    assert len(data) == sketches.refinement_bytes(37, 700) == 64 + 37 * 3 * 64
    assert data[:64].tolist() == list(sketches.TRELLISES[2].levels)
    lines = data[64:].view(37, 3, 64)
    codes = lines[:, :, :62, None] >> torch.arange(0, 8, 2) & 3
    assert torch.equal(codes.flatten(2), refined.codes)
    assert torch.equal(lines[:, :, 62:].contiguous().view(torch.bfloat16)[..., 0], refined.scales)


@pytest.mark.parametrize(
    ("axes", "lines"), [(24, 0), (64, 0), (65, 1), (96, 1), (344, 1), (345, 2), (576, 2), (2048, 8)]
)
def test_lines_of_a_row(axes: int, lines: int) -> None:
    """A line for few axes would say little."""
    assert len(sketches.refined_groups(axes)) == lines
