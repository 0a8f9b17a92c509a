"""Weights rounded to 8, 6, 5 or 4 bits, row by row; nibbles.py says how they lie in memory."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from sparsecomp.nibbles import (
    BLOCK,
    EQUAL_STEPS,
    GROUP,
    HIGH_BITS,
    SCALE_STEPS,
    Order,
    chunks,
    high_bytes,
    level,
    padded,
)

SHRINKS = torch.linspace(0.7, 1.0, 13)
"""Of the largest weight of a group: what less than 8 bits reach up to, tried for the least squared
error."""


@dataclass(frozen=True)
class Rounded:
    """Weights of `bits`: `codes` uint8 (rows, padded). The scale of a group is its `steps`, uint8
    (rows, padded / GROUP), times that of its row, `row_scales` bfloat16 (rows,). To weight `index`
    (int64) of each row its `outlier` (bfloat16) is added, (rows,) both."""

    bits: int
    codes: torch.Tensor
    steps: torch.Tensor
    row_scales: torch.Tensor
    index: torch.Tensor
    outlier: torch.Tensor

    @property
    def scales(self) -> torch.Tensor:
        """Of the groups, float32 (rows, padded / GROUP), which holds them exactly."""
        return _group_scales(self.steps, self.row_scales)

    def values(self, width: int) -> torch.Tensor:
        """The weights, float32 (rows, width)."""
        values = grid(self.codes, self.bits) * self.scales.repeat_interleave(GROUP, 1)
        values[torch.arange(len(values)), self.index] += self.outlier.float()
        return values[:, :width]

    def grid_at(self, index: torch.Tensor) -> torch.Tensor:
        """What the codes say of weight `index` (int64) of each row, float32 (rows,)."""
        row = torch.arange(len(index))
        return grid(self.codes[row, index], self.bits) * self.scales[row, index // GROUP]

    def coarse(self) -> Rounded:
        """What the high plane of 8 bits says alone."""
        high = self.codes >> (self.bits - HIGH_BITS)
        return dataclasses.replace(self, bits=HIGH_BITS, codes=high)


def rounded(weight: torch.Tensor, bits: int, importance: torch.Tensor | None = None) -> Rounded:
    """The rows of `weight` (rows, width) in 8, 6, 5 or 4 bits. In less than 8 the squared errors
    that scales are chosen by are weighed by the `importance` (width,) of a row's weights."""
    rows, width = weight.shape
    groups = in_groups(weight)
    index = _outliers(groups)
    all_rows = torch.arange(rows)
    outlier = groups.view(rows, -1)[all_rows, index]
    groups.view(rows, -1)[all_rows, index] = 0
    if bits == 8:
        needed = groups.abs().amax(2) / last_on_side_of(torch.ones(()), bits)
    else:
        weighed = in_groups(torch.ones(1, width) if importance is None else importance[None])
        weighed = weighed.repeat(rows, 1, 1)
        weighed.view(rows, -1)[all_rows, index] = 0
        needed = _least_squares_scales(groups, weighed, bits)
    steps, row_scales = _in_steps(needed)
    scales = _group_scales(steps, row_scales)[..., None]
    codes = nearest_codes(groups / divisor(scales), bits).view(rows, -1).to(torch.uint8)
    row = Rounded(bits, codes, steps, row_scales, index, torch.zeros(rows).bfloat16())
    return dataclasses.replace(row, outlier=(outlier - row.grid_at(index)).bfloat16())


def in_groups(rows: torch.Tensor) -> torch.Tensor:
    """(rows, width) -> (rows, groups, GROUP), float32, a copy."""
    count, width = rows.shape
    return F.pad(rows.float(), (0, padded(width) - width)).reshape(count, -1, GROUP).clone()


def _outliers(groups: torch.Tensor) -> torch.Tensor:
    """(rows,): the weight of each row without which its group's largest falls most."""
    falls, at = largest_of(groups)
    group = falls.argmax(1)
    return group * GROUP + at[torch.arange(len(groups)), group]


def largest_of(groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """By how much the largest of each group stands out of it, and its place there, (rows, groups)
    both."""
    sizes = groups.abs()
    first, at = sizes.max(2)
    return first - sizes.scatter_(2, at[..., None], 0).amax(2), at


def round_to(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """The values of `weight` (..., width) when its rows are kept in 8, 6, 5 or 4 bits, float32."""
    flat = weight.reshape(-1, weight.shape[-1])
    return rounded(flat, bits).values(weight.shape[-1]).view(weight.shape)


def planes(row: Rounded, order: Order) -> tuple[torch.Tensor, torch.Tensor]:
    """The bytes of the high and of the low plane, uint8 (rows, high_bytes), (rows, low_bytes or
    0)."""
    at = weight_at(row.codes.shape[1], order)
    place = at.argsort()[row.index]
    index = torch.stack([place & 255, place >> 8], 1).to(torch.uint8)
    outlier, scale = (of[:, None].view(torch.uint8) for of in (row.outlier, row.row_scales))
    codes, low_bits = row.codes[:, at], row.bits - HIGH_BITS
    high = torch.cat([_packed(codes >> low_bits, HIGH_BITS), row.steps, index, outlier, scale], 1)
    high = F.pad(high, (0, high_bytes(row.codes.shape[1]) - high.shape[1]))
    low = _packed(codes & (1 << low_bits) - 1, low_bits) if low_bits else high[:, :0]
    return high, low


def weight_at(width: int, order: Order) -> torch.Tensor:
    """The weight in each place of the blocks of a padded row, int64 (width,)."""
    index = torch.arange(width)
    if order is Order.PLAIN:
        return index
    sizes = [blocks * BLOCK for blocks in chunks(width)]
    parts = [
        chunk.view(-1, len(chunk) // BLOCK, GROUP * BLOCK // len(chunk)).transpose(0, 1).flatten()
        for chunk in index.split(sizes)
    ]
    return torch.cat(parts)


def _packed(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """(rows, padded * bits / 8): codes of 4, 2 or 1 bits in bytes, block by block."""
    places = codes.view(len(codes), -1, 8 // bits, BLOCK * bits // 8)
    packed = torch.zeros_like(places[:, :, 0])
    for place in range(8 // bits):
        packed |= places[:, :, place] << (place * bits)
    return packed.flatten(1)


def grid(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """What codes stand for before they are scaled, float32: in 8 bits whole numbers about 0."""
    levels = _levels(bits)
    if bits in EQUAL_STEPS:  # codes may be NaN
        return codes * (levels[1] - levels[0]) + levels[0]
    return levels[codes.long()]


def nearest_codes(values: torch.Tensor, bits: int) -> torch.Tensor:
    """The codes, as floats, that stand for what is nearest to values before they are scaled."""
    levels = _levels(bits)
    if bits in EQUAL_STEPS:
        codes = (values - levels[0]) / (levels[1] - levels[0])
        return codes.round().clamp(0, 2**bits - 1)
    return torch.bucketize(values, (levels[1:] + levels[:-1]) / 2, out_int32=True).float()


def last_on_side_of(values: torch.Tensor, bits: int) -> torch.Tensor:
    """What the last code on the side of each value stands for before it is scaled."""
    return grid((values > 0) * (2**bits - 1), bits)


@functools.cache
def _levels(bits: int) -> torch.Tensor:
    return torch.tensor([level(code, bits) for code in range(2**bits)])


def _least_squares_scales(
    groups: torch.Tensor, importance: torch.Tensor, bits: int
) -> torch.Tensor:
    """The scales (rows, groups) that are best for groups (rows, groups, GROUP). One that is tried
    lets the largest of a group be the last code on its side, or beyond: values that were rounded so
    before keep their codes."""
    largest = groups.gather(2, groups.abs().argmax(2, keepdim=True))
    widest = (largest / last_on_side_of(largest, bits)).abs()
    groups = groups / divisor(widest)
    best_error = torch.full_like(widest, torch.inf)
    best = torch.ones_like(widest)
    for shrink in SHRINKS:
        values = grid(nearest_codes(groups / shrink, bits), bits) * shrink
        error = ((values - groups).square() * importance).sum(2, keepdim=True)
        best = torch.where(error < best_error, shrink, best)
        best_error = torch.minimum(error, best_error)
    return (widest * best).squeeze(2)


def _in_steps(scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The steps and the row scales of the scales (rows, groups) that groups need; see Rounded.

    Both are rounded up, so that no largest weight is cut off. Where it is the last code on its side
    the scale is found again: 8 bits of a row scale, 8 of a step and 8 of what the code stands for
    are a float32 as they are, and so are what is left when it is divided.
    """
    needed = scales.amax(1) / SCALE_STEPS
    row_scales = needed.bfloat16()
    above = torch.nextafter(row_scales, torch.full_like(row_scales, torch.inf))
    row_scales = torch.where(row_scales.float() < needed, above, row_scales)
    steps = (scales / divisor(row_scales)[:, None]).ceil().clamp(max=SCALE_STEPS)
    return steps.to(torch.uint8), row_scales


def _group_scales(steps: torch.Tensor, row_scales: torch.Tensor) -> torch.Tensor:
    return steps * row_scales.float()[:, None]


def divisor(scales: torch.Tensor) -> torch.Tensor:
    """Scales as floats. A group of zeros has the scale 0: any other divides it as well."""
    values = scales.float()
    return torch.where(values == 0, torch.ones_like(values), values)
