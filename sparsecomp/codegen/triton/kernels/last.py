"""The last row of a step."""

import triton
import triton.language as tl

from .step import rows_of


@triton.jit
def last(state, x, out, WIDTH: tl.constexpr, X_STRIDE: tl.constexpr, BLOCK: tl.constexpr):
    """grid: (blocks of columns,)."""
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < WIDTH
    row = rows_of(state) - 1
    tl.store(out + columns, tl.load(x + row * X_STRIDE + columns, mask=inside), mask=inside)
