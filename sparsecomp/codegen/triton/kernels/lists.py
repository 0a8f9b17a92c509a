"""What a list says: list[0] is how many units are chosen, then come their indices, ascending."""

import triton
import triton.language as tl


@triton.jit
def is_listed(list, block, SIZE: tl.constexpr, ROOM: tl.constexpr):
    """Whether a list of at most ROOM entries names one of the SIZE units of a block."""
    i = tl.arange(0, ROOM)
    entry = tl.load(list + 1 + i, mask=i < tl.load(list), other=-SIZE)
    return tl.max((entry // SIZE == block).to(tl.int32), 0) > 0
