"""Scores of a whole vocabulary from a sketch of the head (sketches.py says how it lies)."""

import triton
import triton.language as tl


@triton.jit
def _factor(x, k, there, axes):
    return tl.load(x + k, mask=there & (k < axes), other=0.0)


@triton.jit
def _fine_by_input(words, x, axis, AXES: tl.constexpr):
    """(steps, rows): the sums of code times x over the 8 codes of each word, less their middle.

    Nibble i of a word is the code of axis + i.
    """
    sums = tl.zeros(words.shape, tl.float32)
    total = tl.zeros(axis.shape, tl.float32)
    for i in tl.static_range(8):
        factor = _factor(x, axis + i, axis >= 0, AXES)
        code = (words >> (4 * i)) & 15
        sums += code.to(tl.float32) * factor[:, None]
        total += factor
    return sums - 7.5 * total[:, None]


@triton.jit
def coarse_by_input(words, before, levels, x, axis, there, axes, BITS: tl.constexpr):
    """(steps, rows): the sums of level times x[0..axes) over the codes of each word, less their
    middle.

    BITS of a word from BITS * i on are the code of axis + i; its level is chosen by six bits, that
    code's and those before it, of which the word `before` has the first.
    """
    MORE: tl.constexpr = 6 - BITS
    sums = tl.zeros(words.shape, tl.float32)
    total = tl.zeros(axis.shape, tl.float32)
    stream = (words.to(tl.int64) << MORE) | ((before >> (32 - MORE)) & ((1 << MORE) - 1))
    for i in tl.static_range(32 // BITS):
        factor = _factor(x, axis + i, there, axes)
        level = tl.load(levels + ((stream >> (BITS * i)) & 63))
        sums += level.to(tl.float32) * factor[:, None]
        total += factor
    return sums - 63.5 * total[:, None]


@triton.jit
def sketch_rows(
    x,
    sketch,
    out,
    UNITS: tl.constexpr,
    AXES: tl.constexpr,
    LOT: tl.constexpr,
    FINE: tl.constexpr,
    GROUP: tl.constexpr,
    PADDED: tl.constexpr,
    BITS: tl.constexpr,
    TABLE: tl.constexpr,
    BYTES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out = the scores of x[0..AXES) in a sketch of UNITS rows, plus x[AXES].

    The sketch is a table of levels of TABLE bytes, then lots of LOT rows and BYTES; FINE axes in 4
    bits, then groups of GROUP in BITS, PADDED in all.
    grid: (blocks of rows).
    """
    GROUPS: tl.constexpr = 1 + (PADDED - FINE + GROUP - 1) // GROUP
    CODES: tl.constexpr = FINE // 2 + (PADDED - FINE) * BITS // 8  # bytes of a row
    WORD: tl.constexpr = 32 // BITS  # codes of a word
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < (UNITS + LOT - 1) // LOT * LOT
    lot = sketch + TABLE + (row // LOT).to(tl.int64) * BYTES
    # In words: each step of a lot has one of each row.
    words = lot.to(tl.pointer_type(tl.int32)) + row % LOT
    scales = (lot + CODES * LOT).to(tl.pointer_type(tl.bfloat16)) + row % LOT
    bias = (lot + (CODES + GROUPS * 2) * LOT).to(tl.pointer_type(tl.float32)) + row % LOT

    fine = tl.arange(0, FINE // 8)
    word = tl.load(words[None, :] + fine[:, None] * LOT, mask=there[None, :], other=0)
    y = tl.sum(_fine_by_input(word, x, fine * 8, AXES), 0)
    y *= tl.load(scales, mask=there, other=0.0).to(tl.float32)
    y += tl.load(bias, mask=there, other=0.0) + tl.load(x + AXES)

    STEPS: tl.constexpr = GROUP // WORD
    sums = tl.zeros((STEPS, BLOCK), tl.float32)
    for group in range(1, GROUPS):
        step = (group - 1) * STEPS + tl.arange(0, STEPS)
        inside = step < (PADDED - FINE) // WORD
        at = words[None, :] + (FINE // 8 + step)[:, None] * LOT
        codes = tl.load(at, mask=inside[:, None] & there[None, :], other=0)
        # Before the first step are zeros.
        known = ((step > 0) & inside)[:, None] & there[None, :]
        before = tl.load(at - LOT, mask=known, other=0)
        scale = tl.load(scales + group * LOT, mask=there, other=0.0).to(tl.float32)
        axis = FINE + step * WORD
        found = coarse_by_input(codes, before, sketch, x, axis, inside, AXES, BITS)
        sums += found * scale[None, :]
    tl.store(out + row, y + tl.sum(sums, 0), mask=row < UNITS)
