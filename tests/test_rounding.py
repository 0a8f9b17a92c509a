"""Weights in 8, 6, 5 and 4 bits: what the bytes say, and how far that is from what went in."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsecomp import nibbles
from sparsecomp.nibbles import Order
from sparsecomp.rounding import nearest_codes, planes, round_to, rounded

Bytes = npt.NDArray[np.uint8]
ORDERS = st.sampled_from(Order)


def weights(rows: int, width: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator) * scale


def place(i: int, width: int, order: Order) -> int:
    """Where weight i of a row lies, as the layout says."""
    if order is Order.PLAIN:
        return i
    first, left = 0, nibbles.padded(width) // 64
    for blocks in (8, 4, 2, 1):
        while left >= blocks:
            if i < 64 * (first + blocks):
                (group, at), piece = divmod(i - 64 * first, 32), 32 // blocks
                return 64 * (first + at // piece) + group * piece + at % piece
            first, left = first + blocks, left - blocks
    raise AssertionError(f"no weight {i} in {width}")


def part(plane: Bytes, i: int, bits: int = 4) -> int:
    """What lies in place i of a plane of so many bits each."""
    (block, at), size = divmod(i, 64), 8 * bits
    field, byte = divmod(at, size)
    return int(plane[size * block + byte]) >> (field * bits) & 2**bits - 1


def outlier(high: Bytes, width: int) -> tuple[int, float]:
    """Its place and its value."""
    start = nibbles.padded(width) // 2 + nibbles.padded(width) // 32
    return int(high[start]) | int(high[start + 1]) << 8, bfloat16(high, start + 2)


def bfloat16(high: Bytes, start: int) -> float:
    bits = int(high[start]) | int(high[start + 1]) << 8
    return float(np.array(bits << 16, np.uint32).view(np.float32))


def scale(high: Bytes, width: int, i: int) -> float:
    start = nibbles.padded(width) // 2
    return int(high[start + i // 32]) * bfloat16(high, start + nibbles.padded(width) // 32 + 4)


def closer_about_0(c: int) -> float:
    """What 16 high + l, less its middle, stands for in 6 and 5 bits, by fractions."""
    return math.floor(Fraction(c * (192 + math.floor(Fraction(c * c, 256))), 256)) + 0.5


@pytest.mark.parametrize(("bits", "unit", "middle"), [(8, 1, 128), (6, 4, 126), (5, 8, 124)])
@given(width=st.integers(1, 200) | st.just(990), seed=st.integers(0, 99), order=ORDERS)
def test_the_planes_recombine(
    bits: int, unit: int, middle: int, width: int, seed: int, order: Order
) -> None:
    row = rounded(weights(1, width, seed), bits)
    high, low = (plane[0].numpy() for plane in planes(row, order))
    assert len(high) == nibbles.high_bytes(width) and len(low) == nibbles.low_bytes(width, bits)
    exact, coarse = row.values(width)[0], row.coarse().values(width)[0]
    index, kept = outlier(high, width)
    for i in range(width):
        at, s = place(i, width, order), scale(high, width, i)
        h, below = part(high, at), part(low, at, bits - 4)
        more = np.float32(kept if at == index else 0)
        byte = 16 * h + unit * below - middle
        assert exact[i] == np.float32(s * (byte if bits == 8 else closer_about_0(byte))) + more
        if bits == 8:
            assert coarse[i] == np.float32(s * (16 * h - 120.5)) + more


@given(width=st.integers(1, 200), seed=st.integers(0, 99), order=ORDERS)
def test_4_bits_are_one_plane(width: int, seed: int, order: Order) -> None:
    row = rounded(weights(1, width, seed), 4)
    high, low = planes(row, order)
    assert low.shape == (1, 0)
    plane = high[0].numpy()
    index, kept = outlier(plane, width)
    for i in range(width):
        at = place(i, width, order)
        value = scale(plane, width, i) * (16 * part(plane, at) - 120.5)
        more = np.float32(kept if at == index else 0)
        assert row.values(width)[0, i] == np.float32(value) + more


@given(
    width=st.integers(1, 130),
    seed=st.integers(0, 99),
    size=st.sampled_from([1e-20, 1e-3, 1.0, 1e20]),
)
def test_8_bits_are_within_a_step(width: int, seed: int, size: float) -> None:
    weight = weights(3, width, seed, size)
    error = (round_to(weight, 8) - weight).abs()
    assert (error <= 0.51 * weight.abs().max() / 127).all()


def of_unlike_groups(rows: int, width: int, seed: int, size: float) -> torch.Tensor:
    """Some groups are a millionth of others, some zeros."""
    weight = weights(rows, width, seed, size)
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, width, 32):
        group = weight[:, start : start + 32]
        group *= 10 ** (-6 * torch.rand(rows, 1, generator=generator))
        group *= torch.rand(rows, 1, generator=generator) > 0.1
    return weight


@given(width=st.integers(1, 200), seed=st.integers(0, 99), size=st.sampled_from([1e-20, 1.0, 1e30]))
def test_the_scale_of_a_group_is_the_next_step_above_what_it_needs(
    width: int, seed: int, size: float
) -> None:
    weight = of_unlike_groups(3, width, seed, size)
    row = rounded(weight, 8)
    weight[torch.arange(3), row.index] = 0
    scales = row.scales.repeat_interleave(32, 1)[:, :width]
    missing = ((row.codes.float() - 128)[:, :width] * scales - weight).abs()
    missing[torch.arange(3), row.index] = 0
    assert (missing <= 0.50001 * scales).all()
    row_scale = row.row_scales.double()
    for g, start in enumerate(range(0, width, 32)):
        largest = weight[:, start : start + 32].double().abs().amax(1)
        scale = row.scales[:, g].double()
        assert (scale * 127 >= largest * (1 - 1e-6)).all()
        assert ((scale - row_scale) * 127 <= largest * (1 + 1e-6)).all()
    assert ((row.steps.amax(1) >= 253) | (row.row_scales == 0)).all()


@pytest.mark.parametrize("bits", [8, 6, 4])
@given(
    width=st.integers(2, 200),
    seed=st.integers(0, 99),
    size=st.sampled_from([1e-37, 1e-20, 1.0, 1e30]),
)
def test_codes_and_scales_are_found_again(bits: int, width: int, seed: int, size: float) -> None:
    """Of values of a grid of which the largest of each group is at its end."""
    random = torch.Generator().manual_seed(seed)
    lowest = 1 if bits == 8 else 0  # 8 bits reach as far down as up
    row = rounded(of_unlike_groups(3, width, seed, size), bits)
    codes = torch.randint(lowest, 2**bits, row.codes.shape, generator=random)
    up = torch.randint(2, codes[:, ::32].shape, generator=random)
    codes[:, ::32] = torch.where(up == 1, 2**bits - 1, lowest)
    codes[:, 1] = nearest_codes(torch.zeros(3), bits)
    row = dataclasses.replace(
        row,
        codes=codes.to(torch.uint8),
        index=torch.ones(3, dtype=torch.int64),
        outlier=(row.row_scales.float() * 2**17).bfloat16(),
    )
    again = rounded(row.values(width), bits)
    assert torch.equal(again.row_scales, row.row_scales)
    assert torch.equal(again.scales, row.scales)
    read = (row.scales > 0).repeat_interleave(32, 1)[:, :width]
    assert torch.equal(again.codes[:, :width][read], row.codes[:, :width][read])
    if row.row_scales.all():
        assert torch.equal(again.index, row.index) and torch.equal(again.outlier, row.outlier)


def test_what_is_no_number_spoils_its_row_alone() -> None:
    for bits in (8, 6, 4):
        for value in (torch.nan, torch.inf):
            weight = weights(3, 96, 0)
            weight[1, 40:42] = value
            values = round_to(weight, bits)
            assert not values[1, 32:64].isfinite().any()
            assert torch.equal(values[::2], round_to(weight[::2], bits))


def test_the_weight_that_stands_out_is_kept() -> None:
    """It does not coarsen what shares its group."""
    weight = weights(3, 96, 0)
    weight[1, 40] = 1000.0
    for bits, most in {8: 0.02, 6: 0.08, 5: 0.16, 4: 0.3}.items():
        values = round_to(weight, bits)
        assert values[1, 40] == pytest.approx(1000.0, rel=2**-8)
        error = (values - weight)[1, 32:64].norm() / weight[1, 33:40].norm()
        assert error < most


def test_8_bits_keep_a_16th_of_the_error_of_4() -> None:
    weight = weights(64, 576, 0)
    fine, coarse, own = (
        float((values - weight).norm() / weight.norm())
        for values in (
            round_to(weight, 8),
            rounded(weight, 8).coarse().values(576),
            round_to(weight, 4),
        )
    )
    assert fine < 0.006
    assert coarse == pytest.approx(16 * fine, rel=0.05)
    assert own < coarse  # its scale is made for it
    for bits, more in ((6, 4), (5, 8)):  # closer together where most weights are
        error = float((round_to(weight, bits) - weight).norm() / weight.norm())
        assert 0.87 * more * fine < error < 0.95 * more * fine


def test_groups_of_zeros_stay_zeros() -> None:
    weight = torch.zeros(2, 96)
    weight[0, :32] = weights(1, 32, 0)
    for bits in (8, 6, 5, 4):
        values = round_to(weight, bits)
        assert (values[:, 32:] == 0).all() and (values[1] == 0).all()


def test_any_shape_is_rounded_along_its_last_dimension() -> None:
    weight = weights(6, 70, 0).view(2, 3, 70)
    assert torch.equal(round_to(weight, 8).view(6, 70), round_to(weight.view(6, 70), 8))


def test_what_is_rounded_stays_as_it_is() -> None:
    weight = weights(3, 64, 0)
    before = weight.clone()
    rounded(weight, 8)
    assert torch.equal(weight, before)
