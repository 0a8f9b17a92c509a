"""Norms of a row, or of each head of it."""

import triton
import triton.language as tl

from .step import rows_of


@triton.jit
def normed(
    x,
    weight,
    bias,
    columns,
    WIDTH: tl.constexpr,
    EPS: tl.constexpr,
    LAYER: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
):
    """The norm of x, which is 0 from WIDTH on."""
    inside = columns < WIDTH
    if LAYER:
        x = tl.where(inside, x - tl.sum(x, 0) / WIDTH, 0.0)
    y = x * (1 / tl.sqrt(tl.sum(x * x, 0) / WIDTH + EPS))
    if WEIGHT:
        y *= tl.load(weight + columns, mask=inside, other=0.0)
    if BIAS:
        y += tl.load(bias + columns, mask=inside, other=0.0)
    return y


@triton.jit
def norm(
    state,
    x,
    weight,
    bias,
    out,
    WIDTH: tl.constexpr,
    X_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    EPS: tl.constexpr,
    LAYER: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """grid: (rows, heads); WIDTH is the size of a head."""
    row = tl.program_id(0)
    if row >= rows_of(state):
        return
    columns = tl.arange(0, BLOCK)
    inside = columns < WIDTH
    head = tl.program_id(1) * WIDTH
    values = tl.load(x + row * X_STRIDE + head + columns, mask=inside, other=0.0)
    y = normed(values, weight, bias, columns, WIDTH, EPS, LAYER, WEIGHT, BIAS)
    tl.store(out + row * OUT_STRIDE + head + columns, y, mask=inside)
