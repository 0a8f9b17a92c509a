"""New keys and values into the cache: (groups, positions kept, size)."""

import triton
import triton.language as tl

from .rope import load_turned
from .step import first_position, kept_of, rows_of


@triton.jit
def load_new(
    k,
    v,
    cos,
    sin,
    position,
    present,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    ROTARY: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """(1, key), turned, and (1, value): those that k and v point to; zeros where not `present`."""
    first = tl.zeros((1,), tl.int32)
    there = present & (first == 0)
    key = load_turned(k, cos, sin, first, position + first, there, KEY, ROTARY, HALF, BLOCK_K)
    i = tl.arange(0, BLOCK_V)[None, :]
    value = tl.load(v + i, mask=there[:, None] & (i < VALUE), other=0.0)
    return key, value


@triton.jit
def store_new(cache, new, place, there, SIZE: tl.constexpr):
    """A new key or value (1, block) at a place of the cache, where `there`."""
    i = tl.arange(0, new.shape[1])[None, :]
    at = place.to(tl.int64) * SIZE
    tl.store(cache + at + i, new.to(cache.dtype.element_ty), mask=there & (i < SIZE))


@triton.jit
def append(
    state,
    k,
    v,
    cos,
    sin,
    keys,
    values,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    K_STRIDE: tl.constexpr,
    V_STRIDE: tl.constexpr,
    RING: tl.constexpr,
    ROUND: tl.constexpr,
    ROTARY: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """The rows of k and v, the keys turned; grid: (rows, groups)."""
    row, group = tl.program_id(0), tl.program_id(1)
    there = row < rows_of(state)
    if not there:
        return
    position = first_position(state) + row
    k += row * K_STRIDE + group * KEY
    v += row * V_STRIDE + group * VALUE
    key, value = load_new(
        k, v, cos, sin, position, there, KEY, VALUE, ROTARY, HALF, BLOCK_K, BLOCK_V
    )
    place = group * kept_of(state, RING, ROUND) + position % RING
    store_new(keys, key, place, there, KEY)
    store_new(values, value, place, there, VALUE)
