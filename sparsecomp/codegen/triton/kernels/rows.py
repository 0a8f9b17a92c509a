"""Rows of weights as floats: the one place that knows how weights lie.

ROWS is a `matrix.Rows`. A block of a row is BLOCK weights from a multiple of BLOCK on, 64 or more
where they are quantised. What lies behind the row's last weight may be any number.
"""

import triton
import triton.language as tl

from .factors import load_factors


@triton.jit
def columns(start, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """Which weights of a row a block holds, in its order: that of their bytes if quantised."""
    if ROWS.bits <= 8:
        return _weight_at(_places(start, BLOCK), ROWS)
    return start + tl.arange(0, BLOCK)


@triton.jit
def _places(start, BLOCK: tl.constexpr):
    """The places of a block of nibbles in the order of `_bytes`: by word, byte, half."""
    p = tl.arange(0, BLOCK)
    return start + p // 64 * 64 + p % 2 * 32 + p // 8 % 8 * 4 + p // 2 % 4


@triton.jit
def _weight_at(places, ROWS: tl.constexpr):
    """The weights that lie in places of a row, plain or spread (see nibbles.py)."""
    if ROWS.spread:
        first, shift = _chunk(places // 64, ROWS)
        at = places % 64
        group, piece = 2 * first + (at >> shift), places // 64 - first
        weight = group * 32 + (piece << shift) + (at & ((1 << shift) - 1))
        return tl.where(places < (ROWS.width + 63) // 64 * 64, weight, places)
    return places


@triton.jit
def _chunk(blocks, ROWS: tl.constexpr):
    """The first blocks of the chunks that blocks of a spread row are in, and the base-2 logarithm
    of how many weights of a group each of their blocks has."""
    BLOCKS: tl.constexpr = (ROWS.width + 63) // 64
    WHOLE: tl.constexpr = BLOCKS // 8 * 8
    FOUR: tl.constexpr = WHOLE + (BLOCKS & 4)
    TWO: tl.constexpr = FOUR + (BLOCKS & 2)
    first = tl.where(blocks < FOUR, WHOLE, tl.where(blocks < TWO, FOUR, TWO))
    shift = tl.where(blocks < FOUR, 3, tl.where(blocks < TWO, 4, 5))
    whole = blocks < WHOLE
    return tl.where(whole, blocks // 8 * 8, first), tl.where(whole, 2, shift)


@triton.jit
def load_rows(weights, rows, there, start, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """(rows, BLOCK) as f32: a block of the rows of a matrix that are there; 0 for the others."""
    k = columns(start, BLOCK, ROWS)
    rows = rows.to(tl.int64)
    if ROWS.bits <= 8:
        return _widened(weights, rows, there, start, BLOCK, ROWS)
    at = ROWS.at + rows[:, None] * ROWS.stride + k[None, :]
    inside = there[:, None] & (k < ROWS.width)[None, :]
    return tl.load(weights + at, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def dot_rows(x, weights, rows, there, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """(rows,): the products of the rows that are there with the factors x.

    A thread keeps its products of all columns and adds them up at the end, once.
    """
    products = tl.zeros((rows.shape[0], BLOCK), tl.float32)
    for start in range(0, ROWS.width, BLOCK):
        k = columns(start, BLOCK, ROWS)
        factor = load_factors(x, k, k < ROWS.width)
        products += factor[None, :] * load_rows(weights, rows, there, start, BLOCK, ROWS)
    return tl.sum(products, 1)


@triton.jit
def _widened(weights, rows, there, start, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """load_rows of nibbles, taken as words: a thread has bytes of both halves of 64 places."""
    PADDED: tl.constexpr = (ROWS.width + 63) // 64 * 64
    word = start // 8 + tl.arange(0, BLOCK // 8)
    inside = there[:, None] & (word < PADDED // 8)[None, :]
    words = weights.to(tl.pointer_type(tl.int32))
    at = (ROWS.at + rows * ROWS.stride) // 4
    high = tl.load(words + at[:, None] + word[None, :], mask=inside, other=0)
    steps = (words + at + PADDED // 8).to(tl.pointer_type(tl.uint8))
    halves = (steps + PADDED // 32).to(tl.pointer_type(tl.uint16))
    outlier = tl.load(halves, mask=there, other=0)
    more, row_scale = _bfloat16(halves + 1, there), _bfloat16(halves + 2, there)
    low_steps, high_steps = _steps(steps, word, inside, ROWS)
    low_scale, high_scale = low_steps * row_scale[:, None], high_steps * row_scale[:, None]
    first, second = (high & 0x0F0F0F0F) << 4, high & ~0x0F0F0F0F
    if ROWS.bits > 4:
        # Of LOW bits each, 4 / LOW words of high nibbles share a word.
        LOW: tl.constexpr = ROWS.bits - 4
        ONES: tl.constexpr = 0x01010101 * (2**LOW - 1)
        word_of_low, shift = word // 8 * 2 * LOW + word % (2 * LOW), word % 8 // (2 * LOW) * LOW
        at = (ROWS.low + rows * ROWS.low_stride) // 4
        low = tl.load(words + at[:, None] + word_of_low[None, :], mask=inside, other=0)
        low = low >> shift[None, :]
        first |= (low & ONES) << (4 - LOW)
        second |= (low >> 4 & ONES) << (4 - LOW)
    a, b = _bytes(first, low_scale, ROWS.bits), _bytes(second, high_scale, ROWS.bits)
    values = tl.join(a, b).reshape(rows.shape[0], BLOCK)
    stands_out = _places(start, BLOCK)[None, :] == outlier[:, None]
    return values + tl.where(stands_out, more[:, None], 0.0)


@triton.jit
def _bfloat16(at, there):
    return tl.load(at.to(tl.pointer_type(tl.bfloat16)), mask=there, other=0.0).to(tl.float32)


@triton.jit
def _steps(steps, word, inside, ROWS: tl.constexpr):
    """What scales the groups of the lower and the upper nibbles of words of a plane, (rows, words)
    each, but for the row's scale."""
    if ROWS.spread:
        first, shift = _chunk(word // 8, ROWS)
        group, place = steps[:, None] + 2 * first[None, :], (word % 8 * 4)[None, :]
        lower = tl.load(group + (place >> shift[None, :]), mask=inside, other=0).to(tl.int32)
        upper = tl.load(group + (place + 32 >> shift[None, :]), mask=inside, other=0).to(tl.int32)
        return _number(lower, 0), _number(upper, 0)
    # A block of 64 has two groups: half a word.
    pairs = steps.to(tl.pointer_type(tl.uint16))[:, None] + (word // 8)[None, :]
    both = tl.load(pairs, mask=inside, other=0).to(tl.int32)
    return _number(both & 0xFF, 0), _number(both >> 8, 0)


@triton.jit
def _number(byte, MIDDLE: tl.constexpr):
    """Bytes, in words, less MIDDLE as floats."""
    # Or-ed to the bits of 2^23, a byte is added to it: cheaper than a conversion.
    return (byte | 0x4B000000).to(tl.float32, bitcast=True) - (8388608.0 + MIDDLE)


@triton.jit
def _bytes(words, scales, BITS: tl.constexpr):
    """(.., 2, 2): the weights that the bytes of each word stand for."""
    first, second = _byte(words, scales, 0, BITS), _byte(words, scales, 8, BITS)
    third, fourth = _byte(words, scales, 16, BITS), _byte(words, scales, 24, BITS)
    return tl.join(tl.join(first, third), tl.join(second, fourth))


@triton.jit
def _byte(words, scales, SHIFT: tl.constexpr, BITS: tl.constexpr):
    byte = (words >> SHIFT) & 0xFF
    if BITS == 6 or BITS == 5:
        # Closer together about 0: see nibbles.py.
        c = byte - (128 - 2 ** (7 - BITS))
        byte = ((c * (192 + (c * c >> 8))) >> 8) + 128
    weight = _number(byte, 128) * scales
    if BITS == 4:
        weight += 7.5 * scales
    elif BITS < 8:
        weight += 0.5 * scales
    return weight
