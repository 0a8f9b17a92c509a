"""What a list says: units, ascending, in segments.

LIST is a `lists.Segments`: first lies how many entries each of `number` segments has, then come the
segments, `size` apart. They are made by different programs, which know nothing of each other; who
reads a list adds up.
"""

import triton
import triton.language as tl


@triton.jit
def load_ends(list, LIST: tl.constexpr):
    """The entries up to the end of each segment, filled up to a power of two with how many there
    are in all."""
    segment = tl.arange(0, triton.next_power_of_2(LIST.number))
    return tl.cumsum(tl.load(list + segment, mask=segment < LIST.number, other=0), 0)


@triton.jit
def load_entries(list, ends, j, there, other, LIST: tl.constexpr):
    """The entries j of a list, (J,), of those that are there; `ends` is from load_ends."""
    passed = ends[None, :] <= j[:, None]
    segment = tl.sum(passed.to(tl.int32), 1)
    before = tl.max(tl.where(passed, ends[None, :], 0), 1)
    at = LIST.number + segment * LIST.size + j - before
    return tl.load(list + at, mask=there, other=other)


@triton.jit
def is_listed(list, block, SIZE: tl.constexpr, LIST: tl.constexpr):
    """Whether a short list names one of the SIZE units of a block."""
    i = tl.arange(0, triton.next_power_of_2(LIST.number * LIST.size))
    segment = i // LIST.size
    inside = segment < LIST.number
    held = tl.load(list + segment, mask=inside, other=0)
    entry = tl.load(list + LIST.number + i, mask=i - segment * LIST.size < held, other=-SIZE)
    return tl.max((entry // SIZE == block).to(tl.int32), 0) > 0


@triton.jit
def add_up(counter, number):
    """Adds to a counter that no other program has."""
    tl.store(counter, tl.load(counter) + number)
