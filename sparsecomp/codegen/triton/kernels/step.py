"""What a step's state says."""

import triton
import triton.language as tl


@triton.jit
def first_position(state):
    """The position of the first row."""
    return tl.load(state)


@triton.jit
def rows_of(state):
    """How many rows the step has."""
    return tl.load(state + 1)


@triton.jit
def kept_of(state, RING: tl.constexpr, ROUND: tl.constexpr):
    """How many positions a slot of the cache has room for: a ring that goes round RING, others as
    many as the session holds. Position p lies at p % RING, in either."""
    return RING if ROUND else tl.load(state + 3)


@triton.jit
def token_of(state, row):
    return tl.load(state + 8 + row)
