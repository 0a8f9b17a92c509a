"""New keys and values into the cache."""

import triton
import triton.language as tl

from .rope import load_turned
from .step import first_position, rows_of


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
    ROTARY: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Position p lies at p % RING, its keys turned; grid: (rows, groups)."""
    row, group = tl.program_id(0), tl.program_id(1)
    if row >= rows_of(state):
        return
    position = first_position(state) + row
    at = (group * RING + position % RING).to(tl.int64)
    i, one = tl.arange(0, BLOCK), tl.zeros((1,), tl.int32)
    head = row * K_STRIDE + group * KEY + one
    key = load_turned(k, cos, sin, head, position + one, one == 0, KEY, ROTARY, HALF, BLOCK)
    value = tl.load(v + row * V_STRIDE + group * VALUE + i, mask=i < VALUE, other=0.0)
    place = keys + at * KEY + i[None, :]
    tl.store(place, key.to(keys.dtype.element_ty), mask=(i < KEY)[None, :])
    tl.store(values + at * VALUE + i, value.to(values.dtype.element_ty), mask=i < VALUE)
