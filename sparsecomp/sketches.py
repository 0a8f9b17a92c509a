"""How the sketch of a head lies in memory: all its rows at few bits, in the principal axes of the
head's input (transform coding).

The FINE axes of largest variance take 4 bits a weight, the coarse ones BITS. Weights of a row
share a bfloat16 scale s: the fine ones one, of the others each GROUP one. A fine weight is
s (code - 7.5), a coarse one s (level - 63.5) with a level of 7 bits that its code and those before
it choose (see Trellis and trellis.py). Each row has a float bias.

First comes the table of levels. A lot of LANES rows lies together, so that a vector works on a row
in each lane of 32 bits: 8 fine axes take such a lane, or 16 coarse ones, in order from its lowest
bits on. So the coarse codes of a row are one stream of bits. Then come the scales, group by group,
and the biases.

The first sketch of a cascade has FIRST_BITS a coarse weight, for the half of these axes with the
larger variance alone. What it leaves of a row, its refinement says, at BITS for all coarse axes.
That has a table first, too; then come the rows one by one, as they are read by a list, in whole
cache lines. A line has the codes of LINE_AXES axes, of which each STREAM starts anew, and their
scale. Axes for which a line would be opened are left out where they are fewer than a STREAM: the
last ones say least.

What the rows are multiplied with is rounded to 8 bits for the axes that share a scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LANES, LANE_BITS = 16, 32
FINE, FINE_BITS = 64, 4
GROUP, BITS, FIRST_BITS = 256, 2, 1
SCALE_BYTES, BIAS_BYTES = 2, 4
LINE_BYTES, STREAM = 64, 32
LINE_AXES = (LINE_BYTES - SCALE_BYTES) * 8 // BITS
FACTOR_STEPS = 127
"""What a row is multiplied with is rounded to whole parts of the largest of its group by this."""


FINE_MIDDLE, LEVEL_MIDDLE = 7.5, 63.5
WINDOW = 6


@dataclass(frozen=True)
class Trellis:
    """What codes of so many bits stand for: a code and those before it are a window of WINDOW bits,
    the code highest; before the first are zeros. Each window has a level, opposite ones opposite
    levels: `half` are those of the lower windows. They were found by Lloyd's algorithm on normal
    values with this standard deviation."""

    bits: int
    deviation: float
    half: tuple[int, ...]

    @property
    def levels(self) -> tuple[int, ...]:
        return (*self.half, *(127 - level for level in reversed(self.half)))


TRELLISES = {
    2: Trellis(
        2,
        25.68,
        (
            *(57, 81, 37, 6, 24, 111, 68, 85, 89, 74, 44, 55, 85, 54, 64, 28),
            *(29, 46, 57, 80, 104, 36, 90, 63, 0, 99, 65, 76, 70, 37, 18, 52),
        ),
    ),
    1: Trellis(
        1,
        33.67,
        (
            *(101, 60, 83, 41, 75, 17, 103, 46, 75, 127, 43, 87, 41, 82, 7, 56),
            *(16, 65, 85, 35, 85, 36, 62, 102, 33, 76, 51, 99, 45, 88, 119, 71),
        ),
    ),
}
"""By the bits of a code."""
TABLE_BYTES = 1 << WINDOW


def padded(axes: int, bits: int) -> int:
    """The weights of a row with its padding."""
    coarse = max(axes - FINE, 0)
    kept = coarse if bits == BITS else -(-coarse // 2)
    at_once = LANE_BITS // bits
    return FINE + -(-kept // at_once) * at_once


def groups(axes: int, bits: int) -> Iterator[tuple[range, int]]:
    """The axes that share a scale, and their bits."""
    yield range(FINE), FINE_BITS
    end = padded(axes, bits)
    for first in range(FINE, end, GROUP):
        yield range(first, min(first + GROUP, end)), bits


def row_bytes(axes: int, bits: int) -> int:
    """Bytes of a row, with its scales and its bias."""
    codes = sum(len(group) * width // 8 for group, width in groups(axes, bits))
    return codes + len(list(groups(axes, bits))) * SCALE_BYTES + BIAS_BYTES


def sketch_bytes(rows: int, axes: int, bits: int) -> int:
    """Bytes of the table and of all rows, in whole lots of LANES."""
    return TABLE_BYTES + -(-rows // LANES) * LANES * row_bytes(axes, bits)


def refined_groups(axes: int) -> list[range]:
    """The axes of each line of a row of the refinement, padding with them; none where all are
    fine."""
    coarse = max(axes - FINE, 0)
    lines = -(-max(coarse - STREAM, min(coarse, 1)) // LINE_AXES)
    return [range(FINE + n * LINE_AXES, FINE + (n + 1) * LINE_AXES) for n in range(lines)]


def refined_row_bytes(axes: int) -> int:
    """Bytes of a row of the refinement, with its scales."""
    return len(refined_groups(axes)) * LINE_BYTES


def refinement_bytes(rows: int, axes: int) -> int:
    """Bytes of the table and of all rows of the refinement."""
    return TABLE_BYTES + rows * refined_row_bytes(axes)
