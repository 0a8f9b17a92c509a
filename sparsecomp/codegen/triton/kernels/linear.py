"""Matrix products."""

import triton
import triton.language as tl

from .factors import factors, load_factors
from .rows import columns, dot_rows, load_rows
from .select import choose
from .step import rows_of


@triton.jit
def linear_rows(
    x,
    norm_weight,
    norm_bias,
    weight,
    bias,
    residual,
    out,
    scales,
    limits,
    list,
    counts,
    other_scales,
    other_limits,
    other_list,
    other_counts,
    FIRST: tl.constexpr,
    NORM: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    KEEP: tl.constexpr,
    CHOICE: tl.constexpr,
    OTHER: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out = weight @ x + bias + residual; grid: (blocks of outputs, rows x, which lie in order).

    The first of its programs is number FIRST of the launch. CHOICE and OTHER: what is chosen by
    the outputs, see `choose`; None where nothing is. These are written if KEEP says so.
    """
    x = factors(x + tl.program_id(1) * ROWS.width, norm_weight, norm_bias, NORM)
    block = tl.program_id(0) - FIRST
    n = block * BLOCK_N + tl.arange(0, BLOCK_N)
    there = n < OUTPUTS
    y = dot_rows(x, weight, n, there, BLOCK_K, ROWS)
    if BIAS:
        y += tl.load(bias + n, mask=there, other=0.0)
    at = tl.program_id(1) * OUTPUTS + n
    if RESIDUAL:
        y += tl.load(residual + at, mask=there, other=0.0)
    if KEEP:
        tl.store(out + at, y, mask=there)
    choose(y, n, there, block, scales, limits, list, counts, CHOICE)
    choose(y, n, there, block, other_scales, other_limits, other_list, other_counts, OTHER)


@triton.jit
def linear_columns(
    x,
    norm_weight,
    norm_bias,
    weight,
    bias,
    residual,
    out,
    FIRST: tl.constexpr,
    NORM: tl.constexpr,
    ROWS: tl.constexpr,
    INPUTS: tl.constexpr,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The same of a weight stored by columns: its rows are those of the inputs."""
    x = factors(x + tl.program_id(1) * INPUTS, norm_weight, norm_bias, NORM)
    first = (tl.program_id(0) - FIRST) * BLOCK_N
    products = tl.zeros((BLOCK_K, BLOCK_N), tl.float32)
    for start in range(0, INPUTS, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = k < INPUTS
        factor = load_factors(x, k, inside)
        products += factor[:, None] * load_rows(weight, k, inside, first, BLOCK_N, ROWS)
    y = tl.sum(products, 0)
    n = columns(first, BLOCK_N, ROWS)
    there = n < ROWS.width
    if BIAS:
        y += tl.load(bias + n, mask=there, other=0.0)
    at = tl.program_id(1) * ROWS.width + n
    if RESIDUAL:
        y += tl.load(residual + at, mask=there, other=0.0)
    tl.store(out + at, y, mask=there)


@triton.jit
def outputs_of(first, BLOCK_N: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The outputs of a block of tile_product, in its order."""
    if COLUMNS:
        return columns(first, BLOCK_N, ROWS)
    else:
        return first + tl.arange(0, BLOCK_N)


@triton.jit
def tile_product(
    x,
    weight,
    m,
    present,
    first,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    X_STRIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """(rows m, outputs_of a block) of x @ weight.T.

    With COLUMNS the rows of the weight are those of the inputs.
    """
    n = first + tl.arange(0, BLOCK_N)
    total = tl.zeros((m.shape[0], BLOCK_N), tl.float32)
    for start in range(0, INPUTS, BLOCK_K):
        if COLUMNS:
            k = start + tl.arange(0, BLOCK_K)
            part = load_rows(weight, k, k < INPUTS, first, BLOCK_N, ROWS)
        else:
            k = columns(start, BLOCK_K, ROWS)
            part = tl.trans(load_rows(weight, n, n < OUTPUTS, start, BLOCK_K, ROWS))
        at = m[:, None] * X_STRIDE + k[None, :]
        factor = tl.load(x + at, mask=present[:, None] & (k < INPUTS)[None, :], other=0.0)
        total = tl.dot(factor, part, total, input_precision=PRECISION)
    return total


@triton.jit
def linear_tile(
    state,
    x,
    weight,
    bias,
    residual,
    out,
    INPUTS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    EACH: tl.constexpr,
    X_STRIDE: tl.constexpr,
    RESIDUAL_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Many rows, EACH of a token; grid: (blocks of rows, blocks of outputs)."""
    rows = rows_of(state) * EACH
    if tl.program_id(0) * BLOCK_M >= rows:
        return
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    first = tl.program_id(1) * BLOCK_N
    n = outputs_of(first, BLOCK_N, ROWS, COLUMNS)
    present, there = m < rows, n < OUTPUTS
    y = tile_product(
        x, weight, m, present, first, INPUTS, OUTPUTS, X_STRIDE, ROWS, COLUMNS, PRECISION,
        BLOCK_N, BLOCK_K,
    )  # fmt: skip
    if BIAS:
        y += tl.load(bias + n, mask=there, other=0.0)[None, :]
    inside = present[:, None] & there[None, :]
    if RESIDUAL:
        at = m[:, None] * RESIDUAL_STRIDE + n[None, :]
        y += tl.load(residual + at, mask=inside, other=0.0)
    tl.store(out + m[:, None] * OUT_STRIDE + n[None, :], y, mask=inside)
