"""Partial results added up."""

import triton
import triton.language as tl

from .step import rows_of


@triton.jit
def sum_parts(
    state,
    x,
    residual,
    bias,
    out,
    WIDTH: tl.constexpr,
    X_STRIDE: tl.constexpr,
    RESIDUAL_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    PARTS: tl.constexpr,
    PART: tl.constexpr,
    RESIDUAL: tl.constexpr,
    BIAS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out = residual + bias + the PARTS, PART floats apart; grid: (rows, blocks of columns)."""
    row = tl.program_id(0)
    if row >= rows_of(state):
        return
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < WIDTH
    total = tl.zeros((BLOCK_P, BLOCK), tl.float32)
    for first in range(0, PARTS, BLOCK_P):
        part = first + tl.arange(0, BLOCK_P)
        at = row * X_STRIDE + part[:, None] * PART + columns[None, :]
        total += tl.load(x + at, mask=(part < PARTS)[:, None] & inside[None, :], other=0.0)
    y = tl.sum(total, 0)
    if BIAS:
        y += tl.load(bias + columns, mask=inside, other=0.0)
    if RESIDUAL:
        y += tl.load(residual + row * RESIDUAL_STRIDE + columns, mask=inside, other=0.0)
    tl.store(out + row * OUT_STRIDE + columns, y, mask=inside)
