"""The rows of a sketch of the head rounded to few bits, what that leaves in its refinement, and
what they are multiplied with to 8; sketches.py says how they lie in memory."""

from __future__ import annotations

from collections.abc import Iterable
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
    """The rows of a sketch at so many bits: codes (rows, padded) uint8 and scales (rows, groups)
    bfloat16."""

    bits: int
    codes: torch.Tensor
    scales: torch.Tensor

    def values(self, axes: int) -> torch.Tensor:
        """The weights, float32 (rows, axes); 0 of axes that it does not have."""
        fine = self.codes[:, : sketches.FINE] - sketches.FINE_MIDDLE
        coarse = trellis.levels(self.codes[:, sketches.FINE :], sketches.TRELLISES[self.bits])
        sizes = torch.tensor([len(group) for group, _ in sketches.groups(axes, self.bits)])
        scales = self.scales.float().repeat_interleave(sizes, 1)
        kept = (torch.cat([fine, coarse], 1) * scales)[:, :axes]
        return F.pad(kept, (0, axes - kept.shape[1]))


@dataclass(frozen=True)
class Refinement:
    """What a rounded sketch leaves of its rows, line by line: codes (rows, lines, LINE_AXES) uint8
    and scales (rows, lines) bfloat16."""

    codes: torch.Tensor
    scales: torch.Tensor

    def values(self, axes: int) -> torch.Tensor:
        """What it adds to the weights, float32 (rows, axes)."""
        levels = [_stream_levels(codes) for codes in self.codes.unbind(1)]
        added = torch.cat(levels, 1) * self.scales.float().repeat_interleave(sketches.LINE_AXES, 1)
        more = max(axes - sketches.FINE - added.shape[1], 0)
        return F.pad(added, (sketches.FINE, more))[:, :axes]


def rounded_sketch(rows: torch.Tensor, bits: int = sketches.BITS) -> RoundedSketch:
    """The rows (rows, axes) of a sketch, each group with the least squared error."""
    axes, padded = rows.shape[1], sketches.padded(rows.shape[1], bits)
    wide = F.pad(rows.float(), (0, max(padded - axes, 0)))[:, :padded]
    fine_codes, fine_scale = _rounded_fine(wide[:, : sketches.FINE])
    (_, *sizes) = (len(group) for group, _ in sketches.groups(axes, bits))
    groups = wide[:, sketches.FINE :].split(sizes, 1)
    alike = [_for_trellis(group, bits) for group in groups]
    codes = trellis.nearest(torch.cat([wide[:, :0], *alike], 1), sketches.TRELLISES[bits])
    levels = trellis.levels(codes, sketches.TRELLISES[bits]).split(sizes, 1)
    scales = [_best_scales(*pair).bfloat16() for pair in zip(groups, levels, strict=True)]
    return RoundedSketch(
        bits, torch.cat([fine_codes, codes], 1), torch.cat([fine_scale, *scales], 1)
    )


def rounded_cascade(rows: torch.Tensor) -> tuple[RoundedSketch, Refinement]:
    """The first sketch of a cascade of the rows (rows, axes), and what it leaves of them, each line
    with the least squared error. There must be coarse axes."""
    axes, lines = rows.shape[1], sketches.refined_groups(rows.shape[1])
    first = rounded_sketch(rows, sketches.FIRST_BITS)
    left = F.pad(rows - first.values(axes), (0, max(lines[-1].stop - axes, 0)))
    codes, scales = [], []
    for line in lines:
        part = left[:, line.start : line.stop]
        alike = _for_trellis(part, sketches.BITS).split(sketches.STREAM, 1)
        streams = [trellis.nearest(some, sketches.TRELLISES[sketches.BITS]) for some in alike]
        codes.append(torch.cat(streams, 1))
        scales.append(_best_scales(part, _stream_levels(codes[-1])).bfloat16())
    return first, Refinement(torch.stack(codes, 1), torch.cat(scales, 1))


def _stream_levels(codes: torch.Tensor) -> torch.Tensor:
    """What the codes (rows, n) of streams that start anew stand for."""
    streams = codes.split(sketches.STREAM, 1)
    return torch.cat([trellis.levels(s, sketches.TRELLISES[sketches.BITS]) for s in streams], 1)


def _for_trellis(rows: torch.Tensor, bits: int) -> torch.Tensor:
    """Rows (rows, n) as large as the levels are made for: those of normal values, so that the best
    codes are found once."""
    deviations = rows.square().mean(1, keepdim=True).sqrt()
    return rows * (sketches.TRELLISES[bits].deviation / divisor(deviations))


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


def _best_scales(rows: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """By which (rows, 1) the grid (rows, n) has the least squared distance from the rows."""
    return (rows * grid).sum(1, keepdim=True) / grid.square().sum(1, keepdim=True)


def round_factors(x: torch.Tensor, groups: Iterable[range]) -> torch.Tensor:
    """What a sketch or a refinement is multiplied with (T, axes), rounded as its kernel does for
    each of the groups of axes; 0 of axes that are in none."""
    rounded = torch.zeros_like(x)
    for group in groups:
        part = x[:, group.start : group.stop]
        scales = divisor(part.abs().amax(1, keepdim=True) / sketches.FACTOR_STEPS)
        rounded[:, group.start : group.stop] = (part / scales).round() * scales
    return rounded


def packed_sketch(rows: RoundedSketch, bias: torch.Tensor) -> torch.Tensor:
    """The bytes of a sketch with the biases (rows,) of its rows, uint8."""
    more = -len(bias) % sketches.LANES
    codes = F.pad(rows.codes, (0, 0, 0, more)).unflatten(0, (-1, sketches.LANES))
    scales = F.pad(rows.scales, (0, 0, 0, more)).unflatten(0, (-1, sketches.LANES))
    biases = F.pad(bias.float(), (0, more)).unflatten(0, (-1, sketches.LANES))
    lots = [
        _fours(codes[:, :, : sketches.FINE], sketches.FINE_BITS),
        _fours(codes[:, :, sketches.FINE :], rows.bits),
        scales.transpose(1, 2).contiguous().view(torch.uint8).flatten(1),
        biases.contiguous().view(torch.uint8),
    ]
    return torch.cat([_table(rows.bits), torch.cat(lots, 1).flatten()])


def packed_refinement(rows: Refinement) -> torch.Tensor:
    """The bytes of a refinement, uint8."""
    codes = _packed(rows.codes, sketches.BITS)
    scales = rows.scales[..., None].contiguous().view(torch.uint8)
    return torch.cat([_table(sketches.BITS), torch.cat([codes, scales], 2).flatten()])


def _table(bits: int) -> torch.Tensor:
    return torch.tensor(sketches.TRELLISES[bits].levels, dtype=torch.uint8)


def _fours(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """(lots, LANES, axes) of so many bits as bytes: four of them for each row in turn."""
    return _packed(codes, bits).unflatten(2, (-1, 4)).transpose(1, 2).flatten(1)


def _packed(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """The last dimension as bytes, from their lowest bits on."""
    parts = codes.unflatten(-1, (-1, 8 // bits))
    packed = torch.zeros_like(parts[..., 0])
    for place in range(8 // bits):
        packed |= parts[..., place] << (place * bits)
    return packed
