"""Weights in 8, 6 and 4 bits: what the bytes say, and how far that is from what went in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsecomp import nibbles
from sparsecomp.nibbles import Order
from sparsecomp.rounding import planes, round_to, rounded

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


def nibble(plane: Bytes, i: int) -> int:
    """What lies in place i of a plane."""
    block, at = divmod(i, 64)
    byte = int(plane[32 * block + at % 32])
    return byte & 15 if at < 32 else byte >> 4


def two_bits(plane: Bytes, i: int) -> int:
    """What lies in place i of the low plane of 6 bits."""
    block, at = divmod(i, 64)
    return int(plane[16 * block + at % 16]) >> (2 * (at // 16)) & 3


def outlier(high: Bytes, width: int) -> tuple[int, float]:
    """Its place and its value."""
    *_, low, top, first, last = map(int, high)
    bits = (first | last << 8) << 16
    return low | top << 8, float(np.array(bits, np.uint32).view(np.float32))


def scale(high: Bytes, width: int, i: int) -> float:
    start = nibbles.padded(width) // 2 + 2 * (i // 32)
    bits = int(high[start]) | int(high[start + 1]) << 8
    return float(np.array(bits << 16, np.uint32).view(np.float32))


@pytest.mark.parametrize("bits", [8, 6])
@given(width=st.integers(1, 200) | st.just(990), seed=st.integers(0, 99), order=ORDERS)
def test_the_planes_recombine(bits: int, width: int, seed: int, order: Order) -> None:
    row = rounded(weights(1, width, seed), bits)
    high, low = (plane[0].numpy() for plane in planes(row, order))
    assert len(high) == nibbles.high_bytes(width) and len(low) == nibbles.low_bytes(width, bits)
    exact, coarse = row.values(width)[0], row.coarse().values(width)[0]
    index, kept = outlier(high, width)
    for i in range(width):
        at, s = place(i, width, order), scale(high, width, i)
        h = nibble(high, at)
        below = nibble(low, at) - 128 if bits == 8 else 4 * two_bits(low, at) - 126.5
        more = np.float32(kept if at == index else 0)
        assert exact[i] == np.float32(s * (16 * h + below)) + more
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
        value = scale(plane, width, i) * (16 * nibble(plane, at) - 120.5)
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


def test_the_weight_that_stands_out_is_kept() -> None:
    """It does not coarsen what shares its group."""
    weight = weights(3, 96, 0)
    weight[1, 40] = 1000.0
    for bits, most in {8: 0.02, 6: 0.08, 4: 0.3}.items():
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
    six = float((round_to(weight, 6) - weight).norm() / weight.norm())
    assert six == pytest.approx(4 * fine, rel=0.1)


def test_groups_of_zeros_stay_zeros() -> None:
    weight = torch.zeros(2, 96)
    weight[0, :32] = weights(1, 32, 0)
    for bits in (8, 6, 4):
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
