"""Attention over the cache.

The rows of a program are pairs of a position and a head of one group, so that keys and values are
read once for all heads that share them. In a decode step there is one position, and programs share
the context out; they leave parts.

A decode step may append its position in the same launch (APPENDS). Programs of a launch do not wait
for each other, so what one writes to the cache no other may read: those whose share has the new
position take it from k and v, one of them stores it, and all read older positions alone. Its place
is none of theirs: a ring that goes round has room for more than a window, so two positions that one
step sees lie apart.
"""

import triton
import triton.language as tl

from .append import load_new, store_new
from .lists import add_up, is_listed
from .rope import load_turned
from .scalars import tanh
from .step import first_position, kept_of, rows_of


@triton.jit
def first_seen(position, WINDOW: tl.constexpr, CHUNK: tl.constexpr):
    """The first position that a position attends to; WINDOW and CHUNK are 0 where there is none."""
    begin = position * 0
    if WINDOW:
        begin = tl.maximum(begin, position - (WINDOW - 1))
    if CHUNK:
        begin = tl.maximum(begin, position // CHUNK * CHUNK)
    return begin


@triton.jit
def product(a, b, PRECISION: tl.constexpr):
    """a @ b.T of a (M, K) and b (N, K); M is 1 or a size that tensor cores take."""
    if a.shape[0] == 1:
        return tl.sum(a * b, 1)[None, :]
    else:
        return tl.dot(a, tl.trans(b), input_precision=PRECISION)


@triton.jit
def weighted(shares, values, PRECISION: tl.constexpr):
    """shares @ values of shares (M, N) and values (N, V)."""
    if shares.shape[0] == 1:
        return tl.sum(tl.trans(shares) * values, 0)[None, :]
    else:
        return tl.dot(shares, values, input_precision=PRECISION)


@triton.jit
def load_cached(cache, at, there, SIZE: tl.constexpr, BLOCK):
    """(positions, size) of a group's keys or values, at these places."""
    i = tl.arange(0, BLOCK)
    places = at[:, None] * SIZE + i[None, :]
    inside = there[:, None] & (i < SIZE)[None, :]
    return tl.load(cache + places, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def as_cached(new, cache):
    """What a cache keeps of a key or value."""
    return new.to(cache.dtype.element_ty).to(tl.float32)


@triton.jit
def attend(
    state,
    q,
    list,
    k,
    v,
    keys,
    values,
    slopes,
    sinks,
    cos,
    sin,
    counts,
    out,
    APPENDS: tl.constexpr,
    SHARED: tl.constexpr,
    LIST: tl.constexpr,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    RING: tl.constexpr,
    ROUND: tl.constexpr,
    Q_STRIDE: tl.constexpr,
    OUT_STRIDE: tl.constexpr,
    SCALE: tl.constexpr,
    WINDOW: tl.constexpr,
    CHUNK: tl.constexpr,
    SOFTCAP: tl.constexpr,
    SLOPES: tl.constexpr,
    SINKS: tl.constexpr,
    ROTARY: tl.constexpr,
    HALF: tl.constexpr,
    SPLITS: tl.constexpr,
    PART: tl.constexpr,
    HEAD: tl.constexpr,
    PADDED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """grid: (groups, SPLITS, blocks of pairs); SHARED heads to a group.

    With SPLITS each leaves a part, PART floats from the one before: HEAD floats for each head,
    its values and from PADDED on the largest score and the sum. With 0 splits the result.
    LIST: how a list of heads lies, of which the groups are read alone, and count the positions that
    they read; None without one.
    """
    group, split, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    rows, position = rows_of(state), first_position(state)
    first = (group * kept_of(state, RING, ROUND)).to(tl.int64)
    keys += first * KEY
    values += first * VALUE
    m = block * BLOCK_M + tl.arange(0, BLOCK_M)
    if block * BLOCK_M >= rows * SHARED:
        return
    row, head = m // SHARED, group * SHARED + m % SHARED
    present = row < rows
    p = position + row
    last_row = tl.minimum((block * BLOCK_M + BLOCK_M - 1) // SHARED, rows - 1)
    begin = first_seen(position + block * BLOCK_M // SHARED, WINDOW, CHUNK)
    end = position + last_row + 1
    length = end - begin
    if SPLITS:
        share = tl.cdiv(end - begin, SPLITS * BLOCK_N) * BLOCK_N
        begin += split * share
        end = tl.minimum(end, begin + share)
    if APPENDS:
        has_new = (begin <= position) & (position < end)
        end = tl.minimum(end, position)
        new_key, new_value = load_new(
            k + group * KEY,
            v + group * VALUE,
            cos,
            sin,
            position,
            has_new,
            KEY,
            VALUE,
            ROTARY,
            HALF,
            BLOCK_K,
            BLOCK_V,
        )
        place = position % RING
        store_new(keys, new_key, place, has_new & (block == 0), KEY)
        store_new(values, new_value, place, has_new & (block == 0), VALUE)
    if LIST is not None:
        if not is_listed(list, group, SHARED, LIST):
            return
        if split + block == 0:
            add_up(counts + group, length)

    at = row * Q_STRIDE + head * KEY
    query = SCALE * load_turned(q, cos, sin, at, p, present, KEY, ROTARY, HALF, BLOCK_K)
    if SLOPES:
        slope = tl.load(slopes + head, mask=present, other=0.0)[:, None]
    top = tl.full((BLOCK_M,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    result = tl.zeros((BLOCK_M, BLOCK_V), tl.float32)
    if APPENDS:
        score = tl.sum(query * as_cached(new_key, keys), 1)
        if SOFTCAP > 0:
            score = SOFTCAP * tanh(score / SOFTCAP)
        top = tl.where(has_new, score, top)
        total += has_new.to(tl.float32)
        result += as_cached(new_value, values)
    for start in range(begin, end, BLOCK_N):
        j = start + tl.arange(0, BLOCK_N)
        there = j < end
        places = j % RING
        key = load_cached(keys, places, there, KEY, BLOCK_K)
        value = load_cached(values, places, there, VALUE, BLOCK_V)
        scores = product(query, key, PRECISION)
        if SOFTCAP > 0:
            scores = SOFTCAP * tanh(scores / SOFTCAP)
        if SLOPES:
            scores += slope * (j[None, :] - p[:, None]).to(tl.float32)
        seen = there[None, :] & (j[None, :] <= p[:, None])
        seen &= j[None, :] >= first_seen(p, WINDOW, CHUNK)[:, None]
        scores = tl.where(seen, scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        known = tl.where(higher == -float("inf"), 0.0, higher)
        shares = tl.exp(scores - known[:, None])
        fade = tl.exp(top - known)
        total = total * fade + tl.sum(shares, 1)
        result = result * fade[:, None] + weighted(shares, value, PRECISION)
        top = higher

    i = tl.arange(0, BLOCK_V)
    inside = present[:, None] & (i < VALUE)[None, :]
    if SPLITS:
        at = split * PART + head * HEAD
        tl.store(out + at[:, None] + i[None, :], result, mask=inside)
        tl.store(out + at + PADDED, top, mask=present)
        tl.store(out + at + PADDED + 1, total, mask=present)
    else:
        if SINKS:
            sink = tl.load(sinks + head, mask=present, other=0.0)
            higher = tl.maximum(top, sink)
            total = total * tl.exp(top - higher) + tl.exp(sink - higher)
            result = result * tl.exp(top - higher)[:, None]
        at = (row * OUT_STRIDE + head * VALUE)[:, None] + i[None, :]
        tl.store(out + at, result / total[:, None], mask=inside)


@triton.jit
def combine(
    x,
    list,
    sinks,
    out,
    LIST: tl.constexpr,
    VALUE: tl.constexpr,
    HEAD: tl.constexpr,
    PADDED: tl.constexpr,
    PART: tl.constexpr,
    PARTS: tl.constexpr,
    SINKS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """out = the attention of all parts, 0 for heads that a list leaves out; grid: (heads,)."""
    head = tl.program_id(0)
    part, i = tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_V)
    if LIST is not None:
        if not is_listed(list, head, 1, LIST):
            tl.store(out + head * VALUE + i, tl.zeros((BLOCK_V,), tl.float32), mask=i < VALUE)
            return
    present = part < PARTS
    at = x + part * PART + head * HEAD
    tops = tl.load(at + PADDED, mask=present, other=-float("inf"))
    top = tl.max(tops, 0)
    if SINKS:
        sink = tl.load(sinks + head)
        top = tl.maximum(top, sink)
    factors = tl.exp(tops - top)
    total = tl.sum(factors * tl.load(at + PADDED + 1, mask=present, other=0.0), 0)
    if SINKS:
        total += tl.exp(sink - top)
    inside = present[:, None] & (i < VALUE)[None, :]
    values = tl.load(at[:, None] + i[None, :], mask=inside, other=0.0)
    y = tl.sum(factors[:, None] * values, 0) / total
    tl.store(out + head * VALUE + i, y, mask=i < VALUE)
