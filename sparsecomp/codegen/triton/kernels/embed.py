"""Rows of a table, and the ids themselves."""

import triton
import triton.language as tl

from .rows import columns, load_rows
from .step import first_position, rows_of, token_of


@triton.jit
def index_of(state, row, TOKENS: tl.constexpr):
    """The token of a row, or its position."""
    if TOKENS:
        return token_of(state, row)
    else:
        return first_position(state) + row


@triton.jit
def embed(
    state,
    table,
    out,
    ROWS: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out = row of the table; grid: (rows, blocks of columns)."""
    row = tl.program_id(0)
    if row >= rows_of(state):
        return
    start, one = tl.program_id(1) * BLOCK, tl.zeros((1,), tl.int32)
    index = index_of(state, row, TOKENS) + one
    found = load_rows(table, index, one == 0, start, BLOCK, ROWS)
    k = columns(start, BLOCK, ROWS)[None, :]
    tl.store(out + row * OUT_STRIDE + k, found, mask=k < ROWS.width)


@triton.jit
def ids(state, out, OUT_STRIDE: tl.constexpr, TOKENS: tl.constexpr):
    """out = the token, or position, as a float; grid: (rows,)."""
    row = tl.program_id(0)
    if row >= rows_of(state):
        return
    tl.store(out + row * OUT_STRIDE, index_of(state, row, TOKENS).to(tl.float32))
