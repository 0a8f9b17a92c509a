"""The rows of a sketch of the head rounded to 4 and 2 bits, and what they are multiplied with to 8;
sketches.py says how they lie in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from sparsecomp import sketches, trellis
from sparsecomp.rounding import divisor

FINE_STEP = 0.3352
"""Between the values of 4 bits, in standard deviations, for the least squared error on a normal
distribution (Max, Quantizing for minimum distortion, 1960): where the search begins."""
FINE_ROUNDS = 3


@dataclass(frozen=True)
class RoundedSketch:
    """Codes (rows, padded) uint8 and scales (rows, groups) bfloat16 of the rows of a sketch."""

    codes: torch.Tensor
    scales: torch.Tensor

    def values(self, axes: int) -> torch.Tensor:
        """The weights, float32 (rows, axes)."""
        fine = self.codes[:, : sketches.FINE] - sketches.FINE_MIDDLE
        coarse = trellis.levels(self.codes[:, sketches.FINE :])
        sizes = torch.tensor([len(group) for group, _ in sketches.groups(axes)])
        scales = self.scales.float().repeat_interleave(sizes, 1)
        return (torch.cat([fine, coarse], 1) * scales)[:, :axes]


def rounded_sketch(rows: torch.Tensor) -> RoundedSketch:
    """The rows (rows, axes) of a sketch, each group with the least squared error."""
    axes = rows.shape[1]
    wide = F.pad(rows.float(), (0, sketches.padded(axes) - axes))
    (_, *coarse) = (len(group) for group, _ in sketches.groups(axes))
    fine_codes, fine_scale = _rounded_fine(wide[:, : sketches.FINE])
    codes, scales = _rounded_coarse(wide[:, sketches.FINE :], coarse)
    return RoundedSketch(torch.cat([fine_codes, codes], 1), torch.cat([fine_scale, *scales], 1))


def _rounded_fine(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes uint8 and a scale for each row: in turn the best codes for the scale and the best scale
    for the codes."""
    scales = rows.square().mean(1, keepdim=True).sqrt() * FINE_STEP
    for _ in range(FINE_ROUNDS):
        scales = _best_scales(rows, _fine_codes(rows, scales) - sketches.FINE_MIDDLE)
    kept = scales.bfloat16()
    return _fine_codes(rows, kept).to(torch.uint8), kept


def _fine_codes(rows: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    codes = rows / divisor(scales) + sketches.FINE_MIDDLE
    return codes.round().clamp(0, 2**sketches.FINE_BITS - 1)


def _rounded_coarse(
    rows: torch.Tensor, sizes: list[int]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Codes uint8 and, for groups of these sizes, a scale for each row: the levels are made for
    normal values, so the best codes are found once."""
    groups = rows.split(sizes, 1)
    deviations = [group.square().mean(1, keepdim=True).sqrt() for group in groups]
    pairs = zip(groups, deviations, strict=True)
    alike = [group * (sketches.LEVELS_PER_DEVIATION / divisor(size)) for group, size in pairs]
    codes = trellis.nearest(torch.cat([rows[:, :0], *alike], 1))
    levels = trellis.levels(codes).split(sizes, 1)
    scales = [_best_scales(*pair).bfloat16() for pair in zip(groups, levels, strict=True)]
    return codes, scales


def _best_scales(rows: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """By which (rows, 1) the grid (rows, n) has the least squared distance from the rows."""
    return (rows * grid).sum(1, keepdim=True) / grid.square().sum(1, keepdim=True)


def round_factors(x: torch.Tensor) -> torch.Tensor:
    """What a sketch is multiplied with (T, axes), rounded as its kernel does."""
    axes = x.shape[1]
    wide = F.pad(x, (0, sketches.padded(axes) - axes))
    for group, _ in sketches.groups(axes):
        part = wide[:, group.start : group.stop]
        scales = divisor(part.abs().amax(1, keepdim=True) / sketches.FACTOR_STEPS)
        wide[:, group.start : group.stop] = (part / scales).round() * scales
    return wide[:, :axes]


def packed_sketch(rows: RoundedSketch, bias: torch.Tensor) -> torch.Tensor:
    """The bytes of a sketch with the biases (rows,) of its rows, uint8."""
    more = -len(bias) % sketches.LANES
    codes = F.pad(rows.codes, (0, 0, 0, more)).unflatten(0, (-1, sketches.LANES))
    scales = F.pad(rows.scales, (0, 0, 0, more)).unflatten(0, (-1, sketches.LANES))
    biases = F.pad(bias.float(), (0, more)).unflatten(0, (-1, sketches.LANES))
    lots = [
        _fours(codes[:, :, : sketches.FINE], sketches.FINE_BITS),
        _fours(codes[:, :, sketches.FINE :], sketches.COARSE_BITS),
        scales.transpose(1, 2).contiguous().view(torch.uint8).flatten(1),
        biases.contiguous().view(torch.uint8),
    ]
    return torch.cat(
        [torch.tensor(sketches.LEVELS, dtype=torch.uint8), torch.cat(lots, 1).flatten()]
    )


def _fours(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """(lots, LANES, axes) of so many bits as bytes: four of them for each row in turn."""
    fours = codes.unflatten(2, (-1, 4, 8 // bits))  # lots, rows, steps, bytes, places in a byte
    packed = torch.zeros_like(fours[..., 0])
    for place in range(8 // bits):
        packed |= fours[..., place] << (place * bits)
    return packed.transpose(1, 2).flatten(1)
