"""Activation functions over rows."""

import triton
import triton.language as tl

from .act import activate
from .step import rows_of


@triton.jit
def activate_rows(
    state,
    x,
    up,
    out,
    WIDTH: tl.constexpr,
    X_STRIDE: tl.constexpr,
    UP_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    UP: tl.constexpr,
    ACT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out = act(x), or act(x) * up; grid: (rows, blocks of a row)."""
    row = tl.program_id(0)
    if row >= rows_of(state):
        return
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < WIDTH
    y = activate(tl.load(x + row * X_STRIDE + at, mask=inside, other=0.0), ACT)
    if UP:
        y *= tl.load(up + row * UP_STRIDE + at, mask=inside, other=0.0)
    tl.store(out + row * OUT_STRIDE + at, y, mask=inside)
