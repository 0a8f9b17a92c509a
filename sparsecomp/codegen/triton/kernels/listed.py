"""Matrix products of which the rows, or columns, that a list names are read alone."""

import triton
import triton.language as tl

from .factors import factors
from .lists import is_listed, load_ends, load_entries
from .rows import columns, dot_rows, load_rows


@triton.jit
def _add_share(
    sums,
    values,
    list,
    weights,
    start,
    share,
    SHARES: tl.constexpr,
    SIZE: tl.constexpr,
    LIST: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Adds to `sums` a share of the listed rows, each times its value; of a value of 0 nothing is
    read. An entry of the list stands for SIZE rows."""
    ends = load_ends(list, LIST)
    count = tl.max(ends, 0) * SIZE
    for first in range(share * BLOCK_N, count, SHARES * BLOCK_N):
        i = first + tl.arange(0, BLOCK_N)
        there = i < count
        n = load_entries(list, ends, i // SIZE, there, 0, LIST) * SIZE + i % SIZE
        value = tl.load(values + n, mask=there, other=0.0)
        sums += value[:, None] * load_rows(weights, n, value != 0.0, start, BLOCK_D, ROWS)
    return sums


@triton.jit
def sum_listed(
    values,
    list,
    coarse,
    rest,
    weights,
    out,
    ROWS: tl.constexpr,
    COARSE: tl.constexpr,
    SIZE: tl.constexpr,
    LIST: tl.constexpr,
    REST: tl.constexpr,
    SHARES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Part s of out = the sum over share s of the list of values[n] row n.

    COARSE: another look at the rows, for those listed in `rest` with their `coarse` values; or
    None. LIST and REST: how the two lists lie. grid: (blocks of columns, SHARES).
    """
    start, share = tl.program_id(0) * BLOCK_D, tl.program_id(1)
    sums = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    sums = _add_share(
        sums, values, list, weights, start, share, SHARES, SIZE, LIST, ROWS, BLOCK_N, BLOCK_D
    )
    if COARSE is not None:
        sums = _add_share(
            sums, coarse, rest, weights, start, share, SHARES, SIZE, REST, COARSE, BLOCK_N, BLOCK_D
        )
    d = columns(start, BLOCK_D, ROWS)
    tl.store(out + share * ROWS.width + d, tl.sum(sums, 0), mask=d < ROWS.width)


@triton.jit
def linear_listed(
    x,
    norm_weight,
    norm_bias,
    list,
    weight,
    bias,
    out,
    FIRST: tl.constexpr,
    NORM: tl.constexpr,
    ROWS: tl.constexpr,
    SIZE: tl.constexpr,
    LIST: tl.constexpr,
    BIAS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out = weight @ x + bias of the listed blocks of SIZE rows, 0 of the others.

    grid: the pieces of each block, in order, from program FIRST of the launch on.
    """
    PIECES: tl.constexpr = (SIZE + BLOCK_N - 1) // BLOCK_N
    program = tl.program_id(0) - FIRST
    block = program // PIECES
    i = program % PIECES * BLOCK_N + tl.arange(0, BLOCK_N)
    there, n = i < SIZE, block * SIZE + i
    y = tl.zeros((BLOCK_N,), tl.float32)
    if is_listed(list, block, 1, LIST):
        normed = factors(x, norm_weight, norm_bias, NORM)
        y = dot_rows(normed, weight, n, there, BLOCK_K, ROWS)
        if BIAS:
            y += tl.load(bias + n, mask=there, other=0.0)
    tl.store(out + n, y, mask=there)


@triton.jit
def copy_share(
    scores,
    list,
    out,
    UNITS: tl.constexpr,
    OFFSET: tl.constexpr,
    LIST: tl.constexpr,
    PROGRAMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out = scores + OFFSET of what lies from the first entry of a program's share of a list to the
    next program's. Gives the ends of the list's segments, and the share's first entry and end."""
    program, ends = tl.program_id(0), load_ends(list, LIST)
    count = tl.max(ends, 0)
    first, end = count * program // PROGRAMS, count * (program + 1) // PROGRAMS
    bounds = tl.where(tl.arange(0, 2) == 0, first, end)
    units = load_entries(list, ends, bounds, bounds < count, UNITS, LIST)
    begin = tl.where(program == 0, 0, tl.min(units, 0))
    stop = tl.max(units, 0)
    for start in range(begin, stop, BLOCK):
        n = start + tl.arange(0, BLOCK)
        score = tl.load(scores + n, mask=n < stop, other=0.0)
        tl.store(out + n, score + OFFSET, mask=n < stop)
    tl.debug_barrier()  # some of these are written again, by other threads
    return ends, first, end


@triton.jit
def head_listed(
    x,
    norm_weight,
    norm_bias,
    list,
    scores,
    weight,
    bias,
    out,
    NORM: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    OFFSET: tl.constexpr,
    LIST: tl.constexpr,
    BIAS: tl.constexpr,
    PROGRAMS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out = weight @ x + bias of the listed rows, scores + OFFSET of the others.

    grid: (PROGRAMS). Each has its share of the list, and what lies from its first entry to the
    next one's.
    """
    x = factors(x, norm_weight, norm_bias, NORM)
    ends, first, end = copy_share(scores, list, out, UNITS, OFFSET, LIST, PROGRAMS, BLOCK)
    for start in range(first, end, BLOCK_N):
        i = start + tl.arange(0, BLOCK_N)
        there = i < end
        n = load_entries(list, ends, i, there, 0, LIST)
        y = dot_rows(x, weight, n, there, BLOCK_K, ROWS)
        if BIAS:
            y += tl.load(bias + n, mask=there, other=0.0)
        tl.store(out + n, y, mask=there)
