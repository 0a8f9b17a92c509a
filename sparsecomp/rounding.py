"""Weights rounded to 8 or 4 bits, row by row; nibbles.py says how they lie in memory."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from sparsecomp.nibbles import BLOCK, GROUP, LOW_MEAN, padded

SHRINKS = torch.linspace(0.7, 1.0, 13)
"""Of the largest weight of a group: what 4 bits reach up to, tried for the least squared error."""


@dataclass(frozen=True)
class Rounded:
    """`high` and `low` nibbles, uint8 (rows, padded); `low` is None in 4 bits. `scales`, bfloat16
    (rows, padded / GROUP). To weight `index` (int64) of each row its `outlier` (bfloat16) is added,
    (rows,) both."""

    high: torch.Tensor
    low: torch.Tensor | None
    scales: torch.Tensor
    index: torch.Tensor
    outlier: torch.Tensor

    def values(self, width: int) -> torch.Tensor:
        """The weights, float32 (rows, width)."""
        low = LOW_MEAN if self.low is None else self.low
        grid = 16.0 * self.high + low - 128.0
        scales = self.scales.float().repeat_interleave(GROUP, 1)
        values = grid * scales
        values[torch.arange(len(values)), self.index] += self.outlier.float()
        return values[:, :width]

    def coarse(self) -> Rounded:
        """What the high plane says alone."""
        return Rounded(self.high, None, self.scales, self.index, self.outlier)


def rounded(weight: torch.Tensor, bits: int) -> Rounded:
    """The rows of `weight` (rows, width) in 8 or 4 bits."""
    rows, width = weight.shape
    groups = F.pad(weight.float(), (0, padded(width) - width)).view(rows, -1, GROUP)
    index = _outliers(groups)
    all_rows = torch.arange(rows)
    outlier = groups.view(rows, -1)[all_rows, index]
    groups.view(rows, -1)[all_rows, index] = 0
    largest = groups.abs().amax(2, keepdim=True)
    codes, scales = _in_8_bits(groups, largest) if bits == 8 else _in_4_bits(groups, largest)
    codes = codes.view(rows, -1).to(torch.uint8)
    high, low = (codes >> 4, codes & 15) if bits == 8 else (codes, None)
    row = Rounded(high, low, scales.view(rows, -1), index, torch.zeros(rows).bfloat16())
    left = outlier - row.values(padded(width))[all_rows, index]
    return dataclasses.replace(row, outlier=left.bfloat16())


def _outliers(groups: torch.Tensor) -> torch.Tensor:
    """(rows,): the weight of each row without which its group's largest falls most."""
    rows = torch.arange(len(groups))
    first, second = groups.abs().topk(2, 2).values.unbind(2)
    group = (first - second).argmax(1)
    return group * GROUP + groups[rows, group].abs().argmax(1)


def round_to(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """The values of `weight` (..., width) when its rows are kept in 8 or 4 bits, float32."""
    flat = weight.reshape(-1, weight.shape[-1])
    return rounded(flat, bits).values(weight.shape[-1]).view(weight.shape)


def planes(row: Rounded) -> tuple[torch.Tensor, torch.Tensor]:
    """The bytes of the high and of the low plane, uint8 (rows, high_bytes), (rows, low_bytes or
    0)."""
    index = torch.stack([row.index & 255, row.index >> 8], 1).to(torch.uint8)
    kept = [row.scales.contiguous(), row.outlier[:, None].contiguous()]
    scales, outlier = (part.view(torch.uint8) for part in kept)
    high = torch.cat([_packed(row.high), scales, index, outlier], 1)
    low = high[:, :0] if row.low is None else _packed(row.low)
    return high, low


def _packed(nibbles: torch.Tensor) -> torch.Tensor:
    """(rows, padded / 2): two nibbles a byte."""
    halves = nibbles.view(len(nibbles), -1, 2, BLOCK // 2)
    return (halves[:, :, 0] | halves[:, :, 1] << 4).reshape(len(nibbles), -1)


def _in_8_bits(groups: torch.Tensor, largest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scales = (largest / 127).bfloat16()
    # Rounded up, so that the largest is not cut off.
    scales = torch.where(scales.float() * 127 < largest, scales * (1 + 2**-7), scales)
    codes = (groups / _divisor(scales)).round() + 128
    return codes.clamp(0, 255), scales


def _in_4_bits(groups: torch.Tensor, largest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    best_error = torch.full_like(largest, torch.inf)
    best_codes = torch.zeros_like(groups)
    best_scales = torch.zeros_like(largest, dtype=torch.bfloat16)
    for shrink in SHRINKS:
        scales = (largest * (shrink / 120)).bfloat16()
        codes = ((groups / _divisor(scales) + 128 - LOW_MEAN) / 16).round().clamp(0, 15)
        values = (16 * codes + LOW_MEAN - 128) * scales.float()
        error = (values - groups).square().sum(2, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_codes = torch.where(better, codes, best_codes)
        best_scales = torch.where(better, scales, best_scales)
    return best_codes, best_scales


def _divisor(scales: torch.Tensor) -> torch.Tensor:
    """A group of zeros has the scale 0: any other divides it as well."""
    values = scales.float()
    return torch.where(values == 0, torch.ones_like(values), values)
