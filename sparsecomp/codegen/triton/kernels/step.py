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
def token_of(state, row):
    return tl.load(state + 8 + row)
