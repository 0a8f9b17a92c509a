"""Lists of chosen units: by scores that a program has, or by scores in memory."""

import triton
import triton.language as tl

from .lists import add_up


@triton.jit
def _score(x, scales, i, there, MAGNITUDE: tl.constexpr, SCALED: tl.constexpr):
    score = tl.load(x + i, mask=there, other=0.0)
    return _weighed(score, scales, i, there, MAGNITUDE, SCALED)


@triton.jit
def _weighed(score, scales, i, there, MAGNITUDE: tl.constexpr, SCALED: tl.constexpr):
    if MAGNITUDE:
        score = tl.abs(score)
    if SCALED:
        score *= tl.load(scales + i, mask=there, other=0.0)
    return score


@triton.jit
def _keys(score, there):
    """Integers in the order of the scores, above 0; 0 of those that are not there."""
    bits = (score + 0.0).to(tl.int32, bitcast=True)  # the two zeros are equal
    flipped = bits ^ ((bits >> 31) | -2147483648)
    return tl.where(there, flipped.to(tl.uint32, bitcast=True), 0)


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
def _best(score, there, COUNT: tl.constexpr):
    """Whether each of the scores is one of the COUNT best, of equal ones the first."""
    keys = _keys(score, there)
    least = _kth_largest(keys, COUNT)
    room = COUNT - tl.sum((keys > least).to(tl.int32), 0)
    equal = (keys == least) & there
    return (keys > least) | (equal & (tl.cumsum(equal.to(tl.int32), 0) <= room))


@triton.jit
def choose(score, i, there, group, scales, limits, list, counts, CHOICE: tl.constexpr, every=False):
    """Writes those of a group of units i that are chosen by their scores into a list, and adds how
    many to the group's counter: without a word from other groups. `every`: all are chosen.

    CHOICE is a `lists.Choice`; with None nothing is done. Where so many of each group are chosen,
    the first group says how many there are in all.
    """
    if CHOICE is not None:
        score = _weighed(score, scales, i, there, CHOICE.magnitude, CHOICE.scaled)
        if CHOICE.best:
            chosen = _best(score, there, CHOICE.best)
            before, number, count = group * CHOICE.best, 0, CHOICE.total
        else:
            chosen = there & (score > tl.load(limits))
            if CHOICE.below:
                chosen = chosen & (score <= tl.load(limits + 1))
            before, number, count = group * CHOICE.group, group, tl.sum(chosen.to(tl.int32), 0)
        if CHOICE.or_all:
            chosen = tl.where(every, there, chosen)
            before = tl.where(every, group * CHOICE.group, before)
            count = tl.where(every, CHOICE.segments.size, count)
        place = before + tl.cumsum(chosen.to(tl.int32), 0) - 1
        tl.store(list + CHOICE.segments.number + place, i, mask=chosen)
        if number == group:
            tl.store(list + number, count)
            add_up(counts + number, count)


@triton.jit
def select(
    x,
    state,
    scales,
    limits,
    list,
    counts,
    UNITS: tl.constexpr,
    CHOICE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A list of those of the UNITS x that a `lists.Choice` chooses; grid: (groups)."""
    group, k = tl.program_id(0), tl.arange(0, BLOCK)
    i = group * CHOICE.group + k
    there = (k < CHOICE.group) & (i < UNITS)
    score = tl.load(x + i, mask=there, other=0.0)
    every = False
    if CHOICE.or_all:
        every = tl.load(state + 2) != 0
    choose(score, i, there, group, scales, limits, list, counts, CHOICE, every)


@triton.jit
def _load_keys(x, scales, i, end, MAGNITUDE: tl.constexpr, SCALED: tl.constexpr):
    return _keys(_score(x, scales, i, i < end, MAGNITUDE, SCALED), i < end)


@triton.jit
def select_best(
    x,
    state,
    scales,
    limits,
    list,
    counts,
    UNITS: tl.constexpr,
    COUNT: tl.constexpr,
    FEW: tl.constexpr,
    LOG_SHARE: tl.constexpr,
    OR_ALL: tl.constexpr,
    MAGNITUDE: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """The COUNT best of many units, BLOCK of them at a time; unless LOG_SHARE is None all, too,
    whose share of the sum of exponentials is above the one with that logarithm. grid: (1)

    If they are FEW, the COUNT-th largest among those that are the largest of some units each is a
    floor: few keys are above it, which are searched. They lie behind the list meanwhile.
    """
    least = tl.zeros((), tl.uint32)
    equals = UNITS
    if OR_ALL:
        every = tl.load(state + 2) != 0
    else:
        every = False
    if not every:
        if FEW:
            least, equals = _least_chosen(
                x, scales, list + 1 + COUNT, UNITS, COUNT, MAGNITUDE, SCALED, BLOCK, CHUNK
            )
        else:
            i = tl.arange(0, triton.next_power_of_2(UNITS))
            keys = _load_keys(x, scales, i, UNITS, MAGNITUDE, SCALED)
            least = _kth_largest(keys, COUNT)
            equals = COUNT - tl.sum((keys > least).to(tl.int32), 0)
        if LOG_SHARE is not None:
            score = _log_sum(x, UNITS, BLOCK) + LOG_SHARE
            limit = _keys(score, score == score)
            equals = tl.where(limit < least, 0, equals)  # what is equal to the least is above it
            least = tl.minimum(limit, least)
    count, taken = 0, 0
    for start in range(0, UNITS, BLOCK):
        i = start + tl.arange(0, BLOCK)
        keys = _load_keys(x, scales, i, UNITS, MAGNITUDE, SCALED)
        equal = (keys == least).to(tl.int32)
        first = taken + tl.cumsum(equal, 0) <= equals
        chosen = ((keys > least) | ((keys == least) & first)).to(tl.int32)
        tl.store(list + count + tl.cumsum(chosen, 0), i, mask=(chosen != 0) & (i < UNITS))
        count += tl.sum(chosen, 0)
        taken += tl.sum(equal, 0)
    count = tl.minimum(count, UNITS)
    tl.store(list, count)
    add_up(counts, count)


@triton.jit
def _log_sum(x, UNITS: tl.constexpr, BLOCK: tl.constexpr):
    """The logarithm of the sum of exponentials."""
    i = tl.arange(0, BLOCK)
    tops = tl.full((BLOCK,), float("-inf"), tl.float32)
    for start in range(0, UNITS, BLOCK):
        there = start + i < UNITS
        tops = tl.maximum(tops, tl.load(x + start + i, mask=there, other=float("-inf")))
    peak = tl.max(tops, 0)
    sums = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, UNITS, BLOCK):
        there = start + i < UNITS
        sums += tl.exp(tl.load(x + start + i, mask=there, other=float("-inf")) - peak)
    return peak + tl.log(tl.sum(sums, 0))


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
        tops = tl.maximum(tops, _load_keys(x, scales, start + i, UNITS, MAGNITUDE, SCALED))
    floor = _kth_largest(tops, COUNT)
    found = 0
    for start in range(0, UNITS, BLOCK):
        keys = _load_keys(x, scales, start + i, UNITS, MAGNITUDE, SCALED)
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
