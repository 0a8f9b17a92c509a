"""Scores of a whole vocabulary from a sketch of the head (sketches.py says how it lies)."""

import triton
import triton.language as tl


@triton.jit
def _codes_by_input(
    words,
    x,
    axis,
    there,
    AXES: tl.constexpr,
    BITS: tl.constexpr,
):
    """(steps, rows): the sums of code times x over the codes of each word, less their middle.

    Field f of byte b of a word is the code of axis + 4 f + b.
    """
    FIELDS: tl.constexpr = 8 // BITS
    MIDDLE: tl.constexpr = (2**BITS - 1) / 2
    sums = tl.zeros(words.shape, tl.float32)
    total = tl.zeros(axis.shape, tl.float32)
    for place in tl.static_range(4 * FIELDS):
        k = axis + place
        factor = tl.load(x + k, mask=there & (k < AXES), other=0.0)
        code = (words >> (place % 4 * 8 + place // 4 * BITS)) & (2**BITS - 1)
        sums += code.to(tl.float32) * factor[:, None]
        total += factor
    return sums - MIDDLE * total[:, None]


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
    BYTES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out = the scores of x[0..AXES) in a sketch of UNITS rows, plus x[AXES].

    The sketch is in lots of LOT rows and BYTES; FINE axes in 4 bits, then groups of GROUP in 2.
    grid: (blocks of rows).
    """
    GROUPS: tl.constexpr = 1 + (PADDED - FINE + GROUP - 1) // GROUP
    CODES: tl.constexpr = FINE // 2 + (PADDED - FINE) // 4  # bytes of a row
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < (UNITS + LOT - 1) // LOT * LOT
    lot = sketch + (row // LOT).to(tl.int64) * BYTES
    # In words: each step of a lot has one of each row.
    words = lot.to(tl.pointer_type(tl.int32)) + row % LOT
    scales = (lot + CODES * LOT).to(tl.pointer_type(tl.bfloat16)) + row % LOT
    bias = (lot + (CODES + GROUPS * 2) * LOT).to(tl.pointer_type(tl.float32)) + row % LOT

    fine = tl.arange(0, FINE // 8)
    word = tl.load(words[None, :] + fine[:, None] * LOT, mask=there[None, :], other=0)
    y = tl.sum(_codes_by_input(word, x, fine * 8, fine >= 0, AXES, 4), 0)
    y *= tl.load(scales, mask=there, other=0.0).to(tl.float32)
    y += tl.load(bias, mask=there, other=0.0) + tl.load(x + AXES)

    STEPS: tl.constexpr = GROUP // 16
    sums = tl.zeros((STEPS, BLOCK), tl.float32)
    for group in range(1, GROUPS):
        step = (group - 1) * STEPS + tl.arange(0, STEPS)
        inside = step < (PADDED - FINE) // 16
        at = words[None, :] + (FINE // 8 + step)[:, None] * LOT
        codes = tl.load(at, mask=inside[:, None] & there[None, :], other=0)
        scale = tl.load(scales + group * LOT, mask=there, other=0.0).to(tl.float32)
        sums += _codes_by_input(codes, x, FINE + step * 16, inside, AXES, 2) * scale[None, :]
    tl.store(out + row, y + tl.sum(sums, 0), mask=row < UNITS)
