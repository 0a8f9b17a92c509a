"""Lists of chosen units."""

import triton
import triton.language as tl


@triton.jit
def _score(x, scales, i, there, MAGNITUDE: tl.constexpr, SCALED: tl.constexpr):
    score = tl.load(x + i, mask=there, other=0.0)
    if MAGNITUDE:
        score = tl.abs(score)
    if SCALED:
        score *= tl.load(scales + i, mask=there, other=0.0)
    return score


@triton.jit
def _above(
    x,
    scales,
    i,
    UNITS: tl.constexpr,
    THRESHOLD: tl.constexpr,
    BELOW: tl.constexpr,
    MAGNITUDE: tl.constexpr,
    SCALED: tl.constexpr,
):
    """1 for each of the units i that is chosen, int32."""
    score = _score(x, scales, i, i < UNITS, MAGNITUDE, SCALED)
    chosen = (i < UNITS) & (score > THRESHOLD)
    if BELOW is not None:
        chosen = chosen & (score <= BELOW)
    return chosen.to(tl.int32)


@triton.jit
def select_above(
    x,
    scales,
    list,
    UNITS: tl.constexpr,
    THRESHOLD: tl.constexpr,
    BELOW: tl.constexpr,
    MAGNITUDE: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Those that score above THRESHOLD, and not above BELOW unless it is None.

    grid: (blocks). A program counts what is chosen before its block by itself: the scores lie in
    the cache, and reading them is faster than waiting for another launch.
    """
    block = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    seen = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, block * BLOCK, BLOCK):
        seen += _above(x, scales, start + i, UNITS, THRESHOLD, BELOW, MAGNITUDE, SCALED)
    before = tl.sum(seen, 0)
    i += block * BLOCK
    chosen = _above(x, scales, i, UNITS, THRESHOLD, BELOW, MAGNITUDE, SCALED)
    tl.store(list + before + tl.cumsum(chosen, 0), i, mask=chosen != 0)
    if block == tl.num_programs(0) - 1:
        tl.store(list, before + tl.sum(chosen, 0))


@triton.jit
def _keys(x, scales, i, end, MAGNITUDE: tl.constexpr, SCALED: tl.constexpr):
    """Integers in the order of the scores of the units i, above 0; 0 from `end` on."""
    score = _score(x, scales, i, i < end, MAGNITUDE, SCALED) + 0.0  # the two zeros are equal
    bits = score.to(tl.int32, bitcast=True)
    flipped = bits ^ ((bits >> 31) | -2147483648)
    return tl.where(i < end, flipped.to(tl.uint32, bitcast=True), 0)


@triton.jit
def _kth_largest(keys, COUNT: tl.constexpr):
    """The COUNT-th largest of the keys; 0 if there are fewer."""
    least = tl.zeros((), tl.uint32)
    for bit in range(32):
        higher = least | (tl.full((), 0x80000000, tl.uint32) >> bit)
        reached = tl.sum((keys >= higher).to(tl.int32), 0)
        least = tl.where(reached >= COUNT, higher, least)
    return least


@triton.jit
def select_best(
    x,
    scales,
    state,
    list,
    UNITS: tl.constexpr,
    GROUP: tl.constexpr,
    COUNT: tl.constexpr,
    OR_ALL: tl.constexpr,
    MAGNITUDE: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Of each GROUP units in order the COUNT best, of equal ones the first. grid: (groups)"""
    group = tl.program_id(0)
    end = tl.minimum((group + 1) * GROUP, UNITS)
    i = group * GROUP + tl.arange(0, BLOCK)
    keys = _keys(x, scales, i, end, MAGNITUDE, SCALED)
    least = _kth_largest(keys, COUNT)
    more = (keys > least).to(tl.int32)
    equal = ((keys == least) & (keys > 0)).to(tl.int32)
    first = (tl.cumsum(equal, 0) <= COUNT - tl.sum(more, 0)).to(tl.int32)
    chosen, before = more + equal * first, group * COUNT
    count = UNITS // GROUP * COUNT + tl.minimum(UNITS % GROUP, COUNT)
    if OR_ALL:
        every = tl.load(state + 2) != 0
        chosen = tl.where(every, (i < end).to(tl.int32), chosen)
        before = tl.where(every, group * GROUP, before)
        count = tl.where(every, UNITS, count)
    tl.store(list + before + tl.cumsum(chosen, 0), i, mask=chosen != 0)
    if group == 0:
        tl.store(list, count)


@triton.jit
def select_few(
    x,
    scales,
    state,
    list,
    UNITS: tl.constexpr,
    COUNT: tl.constexpr,
    OR_ALL: tl.constexpr,
    MAGNITUDE: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """The COUNT best of all units, many times as many. grid: (1)

    The COUNT-th largest among those that are the largest of some units each is a floor: few keys
    are above it, which are searched. They lie behind the list meanwhile.
    """
    least = tl.zeros((), tl.uint32)
    equals = UNITS
    if OR_ALL:
        every = tl.load(state + 2) != 0
    else:
        every = False
    if not every:
        least, equals = _least_chosen(
            x, scales, list + 1 + COUNT, UNITS, COUNT, MAGNITUDE, SCALED, BLOCK, CHUNK
        )
    count, taken = 0, 0
    for start in range(0, UNITS, BLOCK):
        i = start + tl.arange(0, BLOCK)
        keys = _keys(x, scales, i, UNITS, MAGNITUDE, SCALED)
        equal = (keys == least).to(tl.int32)
        first = taken + tl.cumsum(equal, 0) <= equals
        chosen = ((keys > least) | ((keys == least) & first)).to(tl.int32)
        tl.store(list + count + tl.cumsum(chosen, 0), i, mask=(chosen != 0) & (i < UNITS))
        count += tl.sum(chosen, 0)
        taken += tl.sum(equal, 0)
    tl.store(list, tl.minimum(count, UNITS))


@triton.jit
def _least_chosen(
    x,
    scales,
    room,
    UNITS: tl.constexpr,
    COUNT: tl.constexpr,
    MAGNITUDE: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """The COUNT-th largest key, and how many of the keys equal to it are among the COUNT best."""
    i = tl.arange(0, BLOCK)
    tops = tl.zeros((BLOCK,), tl.uint32)
    for start in range(0, UNITS, BLOCK):
        tops = tl.maximum(tops, _keys(x, scales, start + i, UNITS, MAGNITUDE, SCALED))
    floor = _kth_largest(tops, COUNT)
    found = 0
    for start in range(0, UNITS, BLOCK):
        keys = _keys(x, scales, start + i, UNITS, MAGNITUDE, SCALED)
        above = (keys > floor).to(tl.int32)
        at = room + found + tl.cumsum(above, 0) - 1
        tl.store(at, keys.to(tl.int32, bitcast=True), mask=above != 0)
        found += tl.sum(above, 0)
    tl.debug_barrier()  # what some threads wrote others read
    least = floor
    if found >= COUNT:
        least = tl.zeros((), tl.uint32)
        for bit in range(32):
            higher = least | (tl.full((), 0x80000000, tl.uint32) >> bit)
            reached = _reach(room, found, higher, CHUNK)
            least = tl.where(reached >= COUNT, higher, least)
    return least, COUNT - _reach(room, found, least + 1, CHUNK)


@triton.jit
def _reach(keys, count, least, CHUNK: tl.constexpr):
    """How many of the keys are at least `least`."""
    reached = tl.zeros((CHUNK,), tl.int32)
    for start in range(0, count, CHUNK):
        i = start + tl.arange(0, CHUNK)
        key = tl.load(keys + i, mask=i < count, other=0).to(tl.uint32, bitcast=True)
        reached += ((key >= least) & (i < count)).to(tl.int32)
    return tl.sum(reached, 0)
