"""Scores of a first sketch once more, for the listed rows, with what their refinement says."""

import triton
import triton.language as tl

from .listed import copy_share
from .lists import load_entries
from .sketch import coarse_by_input


@triton.jit
def refine_listed(
    x,
    list,
    scores,
    refinement,
    out,
    UNITS: tl.constexpr,
    AXES: tl.constexpr,
    FINE: tl.constexpr,
    LINES: tl.constexpr,
    LINE: tl.constexpr,
    LINE_AXES: tl.constexpr,
    STREAM: tl.constexpr,
    BITS: tl.constexpr,
    TABLE: tl.constexpr,
    OFFSET: tl.constexpr,
    LIST: tl.constexpr,
    PROGRAMS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """out = of the listed rows scores and the products of x[0..AXES) with their refinement, of the
    others scores + OFFSET.

    The refinement is a table of levels of TABLE bytes, then rows of LINES times LINE bytes: codes
    of BITS for LINE_AXES axes, from axis FINE on, and their scale. Each STREAM of axes starts anew.
    grid: (PROGRAMS), as of head_listed.
    """
    WORD: tl.constexpr = 32 // BITS  # codes of a word
    ends, first, end = copy_share(scores, list, out, UNITS, OFFSET, LIST, PROGRAMS, BLOCK)
    step = tl.arange(0, LINE // 4)
    continued = step % (STREAM // WORD) > 0
    for start in range(first, end, BLOCK_N):
        i = start + tl.arange(0, BLOCK_N)
        there = i < end
        n = load_entries(list, ends, i, there, 0, LIST)
        row = refinement + TABLE + n.to(tl.int64) * (LINES * LINE)
        y = tl.load(scores + n, mask=there, other=0.0)
        for line in range(LINES):
            begin = row + line * LINE
            words = begin.to(tl.pointer_type(tl.int32))[None, :] + step[:, None]
            codes = tl.load(words, mask=there[None, :], other=0)
            before = tl.load(words - 1, mask=continued[:, None] & there[None, :], other=0)
            scale = (begin + LINE_AXES * BITS // 8).to(tl.pointer_type(tl.bfloat16))
            axis = FINE + line * LINE_AXES + step * WORD
            axes = tl.minimum(FINE + (line + 1) * LINE_AXES, AXES)
            found = coarse_by_input(codes, before, refinement, x, axis, axis >= 0, axes, BITS)
            y += tl.sum(found, 0) * tl.load(scale, mask=there, other=0.0).to(tl.float32)
        tl.store(out + n, y, mask=there)
