"""Folds along the last dimension."""

import triton
import triton.language as tl

from .step import rows_of


@triton.jit
def reduce(
    state,
    x,
    out,
    WIDTH: tl.constexpr,
    X_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    FOLD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """grid: (rows, what lies before the last dimension)."""
    row, group = tl.program_id(0), tl.program_id(1)
    if row >= rows_of(state):
        return
    columns = tl.arange(0, BLOCK)
    inside = columns < WIDTH
    at = x + row * X_STRIDE + group * WIDTH + columns
    out += row * OUT_STRIDE
    if FOLD == "softmax":
        values = tl.load(at, mask=inside, other=-float("inf"))
        shares = tl.exp(values - tl.max(values, 0))
        tl.store(out + group * WIDTH + columns, shares / tl.sum(shares, 0), mask=inside)
    elif FOLD == "max":
        tl.store(out + group, tl.max(tl.load(at, mask=inside, other=-float("inf")), 0))
    elif FOLD == "min":
        tl.store(out + group, tl.min(tl.load(at, mask=inside, other=float("inf")), 0))
    else:
        total = tl.sum(tl.load(at, mask=inside, other=0.0), 0)
        tl.store(out + group, total / WIDTH if FOLD == "mean" else total)
