"""How the sketch of a head lies in memory: all its rows at few bits, in the principal axes of the
head's input (transform coding).

The FINE axes of largest variance take 4 bits a weight, the others 2. Weights of a row share a
bfloat16 scale s: the fine ones one, of the others each GROUP one. A fine weight is s (code - 7.5),
a coarse one s (level - 63.5) with a level of 7 bits that its code and the two before it choose (see
LEVELS and trellis.py). Each row has a float bias.

First comes the table of LEVELS. A lot of LANES rows lies together, so that a vector works on a row
in each lane of 32 bits: 8 fine axes take such a lane, or 16 coarse ones, in order from its lowest
bits on. So the coarse codes of a row are one stream of bits. Then come the scales, group by group,
and the biases.

What the rows are multiplied with is rounded to 8 bits in the same groups.
"""

from __future__ import annotations

from collections.abc import Iterator

LANES = 16
FINE, FINE_BITS = 64, 4
GROUP, COARSE_BITS, COARSE_AT_ONCE = 256, 2, 16
SCALE_BYTES, BIAS_BYTES = 2, 4
FACTOR_STEPS = 127
"""What a row is multiplied with is rounded to whole parts of the largest of its group by this."""


FINE_MIDDLE, LEVEL_MIDDLE = 7.5, 63.5

LEVELS_PER_DEVIATION = 25.68
_HALF = (
    *(57, 81, 37, 6, 24, 111, 68, 85, 89, 74, 44, 55, 85, 54, 64, 28),
    *(29, 46, 57, 80, 104, 36, 90, 63, 0, 99, 65, 76, 70, 37, 18, 52),
)
LEVELS = (*_HALF, *(127 - level for level in reversed(_HALF)))
"""What a window of six bits stands for: a coarse code in its highest two, the one before it below,
the one before that in its lowest; before the first are zeros. By Lloyd's algorithm on normal values
with a standard deviation of LEVELS_PER_DEVIATION, opposite windows kept opposite."""
TABLE_BYTES = len(LEVELS)


def padded(axes: int) -> int:
    """The weights of a row with its padding."""
    return FINE + -(-max(axes - FINE, 0) // COARSE_AT_ONCE) * COARSE_AT_ONCE


def groups(axes: int) -> Iterator[tuple[range, int]]:
    """The axes that share a scale, and their bits."""
    yield range(FINE), FINE_BITS
    end = padded(axes)
    for first in range(FINE, end, GROUP):
        yield range(first, min(first + GROUP, end)), COARSE_BITS


def row_bytes(axes: int) -> int:
    """Bytes of a row, with its scales and its bias."""
    codes = sum(len(group) * bits // 8 for group, bits in groups(axes))
    return codes + len(list(groups(axes))) * SCALE_BYTES + BIAS_BYTES


def sketch_bytes(rows: int, axes: int) -> int:
    """Bytes of the table and of all rows, in whole lots of LANES."""
    return TABLE_BYTES + -(-rows // LANES) * LANES * row_bytes(axes)
