"""Rotary embeddings."""

import triton
import triton.language as tl

from .step import first_position, rows_of


@triton.jit
def partner_of(i, ROTARY: tl.constexpr, HALF: tl.constexpr):
    """Which element of a head is turned with element i."""
    return (i + ROTARY // 2) % ROTARY if HALF else i ^ 1


@triton.jit
def load_turned(
    x,
    cos,
    sin,
    heads,
    positions,
    present,
    SIZE: tl.constexpr,
    ROTARY: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """(heads, elements): heads that begin at x + heads, each turned as its position says.

    ROTARY 0 turns none.
    """
    i = tl.arange(0, BLOCK)
    inside = present[:, None] & (i < SIZE)[None, :]
    own = tl.load(x + heads[:, None] + i[None, :], mask=inside, other=0.0)
    if ROTARY:
        turned = present[:, None] & (i < ROTARY)[None, :]
        other = x + heads[:, None] + partner_of(i, ROTARY, HALF)[None, :]
        table = positions[:, None] * ROTARY + i[None, :]
        a = tl.load(cos + table, mask=turned, other=1.0)
        b = tl.load(sin + table, mask=turned, other=0.0)
        own = a * own + b * tl.load(other, mask=turned, other=0.0)
    return own


@triton.jit
def rope(
    state,
    x,
    cos,
    sin,
    out,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    ROTARY: tl.constexpr,
    HALF: tl.constexpr,
    X_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out = cos * x + sin * partner(x) of the first ROTARY of a head; grid: (rows, heads)."""
    row = tl.program_id(0)
    if row >= rows_of(state):
        return
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    i = tl.arange(0, BLOCK)
    position = first_position(state) + row + head * 0
    y = load_turned(
        x + row * X_STRIDE, cos, sin, head * SIZE, position, head < HEADS, SIZE, ROTARY, HALF, BLOCK
    )
    at = out + row * OUT_STRIDE + (head * SIZE)[:, None] + i[None, :]
    tl.store(at, y, mask=(head < HEADS)[:, None] & (i < SIZE)[None, :])
