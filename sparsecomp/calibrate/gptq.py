"""Rounding weights one input after the other, each making up for what rounding the ones before it
did to the output (GPTQ, arXiv 2210.17323, section 3).

Rounding each weight to the nearest is best only where inputs know nothing of each other. What
counts is the output: the squared error of `(W - rounded) x` over the inputs x that a matrix meets,
which depends on their second moments alone. Inputs of large moments are rounded first, so that all
others are left to make up for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsecomp.nibbles import GROUP
from sparsecomp.rounding import divisor, grid, last_on_side_of, nearest_codes, rounded

DAMPING = 1e-3
"""Of the mean moment, added to all: inputs that hardly vary shall not take up all errors."""
BLOCK = 64
"""Inputs among which an error is passed on at once; to all behind them as a product of matrices
(section 3.2)."""


def gptq(weight: torch.Tensor, bits: int, moments: Sequence[torch.Tensor]) -> torch.Tensor:
    """`weight` (rows, width) by values that 6 or 4 `bits` have, float32.

    `moments` are the second moments of the inputs, (inputs, inputs) of each piece of a row, one
    piece behind the other: errors are made up for within a piece. Rounding the values to so many
    bits again gives them again, but for the few rows of which two weights stand out about as much.
    """
    width = weight.shape[1]
    moments = [_damped(of) for of in moments]
    importance = torch.cat([of.diagonal() for of in moments]).float()
    nearest = rounded(weight, bits, importance)
    scales = nearest.scales.float().repeat_interleave(GROUP, 1)[:, :width]
    pinned = _pinned(weight, nearest.index, scales, bits)
    sizes = [len(of) for of in moments]
    split = [t.split(sizes, 1) for t in (weight.float(), scales, pinned)]
    pieces = zip(*split, moments, strict=True)
    return torch.cat([_rounded_in_turn(w, s, p, m, bits) for w, s, p, m in pieces], 1)


def _pinned(
    weight: torch.Tensor, outliers: torch.Tensor, scales: torch.Tensor, bits: int
) -> torch.Tensor:
    """What weights must become, NaN for those that are free: the outlier of a row stays, and the
    largest of a group takes the last code on its side, for by it the scale is found again."""
    rows, width = weight.shape
    all_rows = torch.arange(rows)
    rest = weight.float().clone()
    rest[all_rows, outliers] = 0
    pinned = torch.full_like(rest, torch.nan)
    for start in range(0, width, GROUP):
        group = rest[:, start : start + GROUP]
        at = start + group.abs().argmax(1)
        scale = scales[:, start]
        pinned[all_rows, at] = last_on_side_of(rest[all_rows, at], bits) * scale
    pinned[all_rows, outliers] = weight.float()[all_rows, outliers]
    return pinned


def _rounded_in_turn(
    weight: torch.Tensor,
    scales: torch.Tensor,
    pinned: torch.Tensor,
    moments: torch.Tensor,
    bits: int,
) -> torch.Tensor:
    """All (rows, width) but the moments. Inputs of large moments come first: most are left to make
    up for them."""
    order = moments.diagonal().argsort(descending=True, stable=True)
    passed_on = _passed_on(moments[order][:, order])
    left, scales, pinned = (t[:, order].clone() for t in (weight, scales, pinned))
    found = torch.empty_like(left)
    for start in range(0, len(order), BLOCK):
        stop = min(start + BLOCK, len(order))
        errors = torch.empty(len(left), stop - start)
        for i in range(start, stop):
            scale = scales[:, i]
            value = grid(nearest_codes(left[:, i] / divisor(scale), bits), bits) * scale
            found[:, i] = torch.where(pinned[:, i].isnan(), value, pinned[:, i])
            error = (left[:, i] - found[:, i]) / passed_on[i, i]
            left[:, i + 1 : stop] -= error[:, None] * passed_on[i, i + 1 : stop]
            errors[:, i - start] = error
        left[:, stop:] -= errors @ passed_on[start:stop, stop:]
    return found[:, order.argsort()]


def _damped(moments: torch.Tensor) -> torch.Tensor:
    """Moments that have an inverse, float64."""
    damped = moments.double().clone()
    mean = float(damped.diagonal().mean())
    damped.diagonal().add_(mean * DAMPING if mean > 0 else 1.0)
    return damped


def _passed_on(moments: torch.Tensor) -> torch.Tensor:
    """How an error in each input is best made up for by those behind it: the upper Cholesky factor
    of the inverse of the moments (section 3.3), float32."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
    return torch.linalg.cholesky(inverse, upper=True).float()
