"""MLPs whose neurons lie one behind the other: its rows of (gate,) up, then its column of down."""

import triton
import triton.language as tl

from .act import activate
from .factors import factors, load_factors
from .linear import tile_product
from .rows import columns, load_rows
from .step import rows_of


@triton.jit
def mlp_neurons(
    x,
    norm_weight,
    norm_bias,
    weights,
    gate_bias,
    up_bias,
    out,
    NORM: tl.constexpr,
    NEURONS: tl.constexpr,
    GATE: tl.constexpr,
    UP: tl.constexpr,
    DOWN: tl.constexpr,
    ACT: tl.constexpr,
    GATE_BIAS: tl.constexpr,
    UP_BIAS: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One row: each of PARTS programs leaves the sum over its neurons; grid: (PARTS,).

    GATE, UP and DOWN: the rows of the weights; GATE is None where there is none.
    """
    k, d = columns(0, BLOCK_K, UP), columns(0, BLOCK_D, DOWN)
    factor = load_factors(factors(x, norm_weight, norm_bias, NORM), k, k < UP.width)[None, :]
    total = tl.zeros((BLOCK_D,), tl.float32)
    for first in range(tl.program_id(0) * BLOCK_N, NEURONS, PARTS * BLOCK_N):
        n = first + tl.arange(0, BLOCK_N)
        there = n < NEURONS
        value = tl.sum(load_rows(weights, n, there, 0, BLOCK_K, UP) * factor, 1)
        if UP_BIAS:
            value += tl.load(up_bias + n, mask=there, other=0.0)
        if GATE is not None:
            gate = tl.sum(load_rows(weights, n, there, 0, BLOCK_K, GATE) * factor, 1)
            if GATE_BIAS:
                gate += tl.load(gate_bias + n, mask=there, other=0.0)
            value *= activate(gate, ACT)
        else:
            value = activate(value, ACT)
        down = load_rows(weights, n, there, 0, BLOCK_D, DOWN)
        total += tl.sum(value[:, None] * down, 0)
    tl.store(out + tl.program_id(0) * DOWN.width + d, total, mask=d < DOWN.width)


@triton.jit
def mlp_hidden(
    state,
    x,
    weights,
    gate_bias,
    up_bias,
    out,
    NEURONS: tl.constexpr,
    GATE: tl.constexpr,
    UP: tl.constexpr,
    X_STRIDE: tl.constexpr,
    ACT: tl.constexpr,
    GATE_BIAS: tl.constexpr,
    UP_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Many rows: out (rows, NEURONS) = the neurons' values; grid: (blocks of rows, of neurons)."""
    rows = rows_of(state)
    if tl.program_id(0) * BLOCK_M >= rows:
        return
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    first = tl.program_id(1) * BLOCK_N
    n = first + tl.arange(0, BLOCK_N)
    there = n < NEURONS
    value = tile_product(
        x, weights, m, m < rows, first, UP.width, NEURONS, X_STRIDE, UP, False, PRECISION,
        BLOCK_N, BLOCK_K,
    )  # fmt: skip
    if UP_BIAS:
        value += tl.load(up_bias + n, mask=there, other=0.0)[None, :]
    if GATE is not None:
        gate = tile_product(
            x, weights, m, m < rows, first, GATE.width, NEURONS, X_STRIDE, GATE, False, PRECISION,
            BLOCK_N, BLOCK_K,
        )  # fmt: skip
        if GATE_BIAS:
            gate += tl.load(gate_bias + n, mask=there, other=0.0)[None, :]
        value *= activate(gate, ACT)
    else:
        value = activate(value, ACT)
    at = m[:, None] * NEURONS + n[None, :]
    tl.store(out + at, value, mask=(m < rows)[:, None] & there[None, :])
