"""Norms of a row, or of each head of it."""

import triton
import triton.language as tl

from .factors import factors, load_factors
from .step import rows_of


@triton.jit
def norm(
    state,
    x,
    weight,
    bias,
    out,
    NORM: tl.constexpr,
    X_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
):
    """grid: (rows, heads); what NORM says is of a head."""
    row = tl.program_id(0)
    if row >= rows_of(state):
        return
    head = tl.program_id(1) * NORM.width
    columns = tl.arange(0, NORM.block)
    inside = columns < NORM.width
    normed = factors(x + row * X_STRIDE + head, weight, bias, NORM)
    at = row * OUT_STRIDE + head + columns
    tl.store(out + at, load_factors(normed, columns, inside), mask=inside)
