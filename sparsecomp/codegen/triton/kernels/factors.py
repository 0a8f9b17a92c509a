"""What rows of weights are multiplied with: a row of floats, or the norm of one.

NORM is a `factors.Norm`, or None. A program finds mean and deviation for itself, before all else.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Factors(NamedTuple):
    """Of a plain row all else is None; of a norm, what it does without."""

    row: Any
    mean: Any
    inverse: Any
    """Of the deviation."""
    weight: Any
    bias: Any


@triton.jit
def plain(x):
    """A row as it is."""
    return Factors(x, None, None, None, None)


@triton.jit
def factors(x, weight, bias, NORM: tl.constexpr):
    """The norm of a row, or the row.

    The mean is subtracted before squares are added up: a large one does no harm.
    """
    if NORM is None:
        return plain(x)
    else:
        columns = tl.arange(0, NORM.block)
        inside = columns < NORM.width
        values = tl.load(x + columns, mask=inside, other=0.0)
        mean = None
        if NORM.layer:
            mean = tl.sum(values, 0) / NORM.width
            values = tl.where(inside, values - mean, 0.0)
        inverse = 1 / tl.sqrt(tl.sum(values * values, 0) / NORM.width + NORM.eps)
        scale, shift = weight if NORM.weight else None, bias if NORM.bias else None
        return Factors(x, mean, inverse, scale, shift)


@triton.jit
def load_factors(x, columns, inside):
    """The factors of these columns; 0 for those that are not inside."""
    value = tl.load(x.row + columns, mask=inside, other=0.0)
    if x.mean is not None:
        value = tl.where(inside, value - x.mean, 0.0)
    if x.inverse is not None:
        value *= x.inverse
    if x.weight is not None:
        value *= tl.load(x.weight + columns, mask=inside, other=0.0)
    if x.bias is not None:
        value += tl.load(x.bias + columns, mask=inside, other=0.0)
    return value
