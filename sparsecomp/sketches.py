"""How the sketch of a head lies in memory: all its rows at few bits, in the principal axes of the
head's input (transform coding).

The FINE axes of largest variance take 4 bits a weight, the others 2. Weights of a row share a
bfloat16 scale s: the fine ones one, of the others each GROUP one. A weight is s (code - middle),
with the middle of the codes, 7.5 or 1.5. Each row has a float bias.

A lot of LANES rows lies together, so that a vector works on a row in each lane of 32 bits. 8 fine
axes take four bytes a row: byte b has axis b in its low and axis 4 + b in its high nibble. So do 16
coarse axes: byte b has the axes b, 4 + b, 8 + b, 12 + b from its lowest bits on. Then come the
scales, group by group, and the biases.

What the rows are multiplied with is rounded to 8 bits in the same groups.
"""

from __future__ import annotations

from collections.abc import Iterator

LANES = 16
FINE, FINE_BITS, FINE_AT_ONCE = 64, 4, 8
GROUP, COARSE_BITS, COARSE_AT_ONCE = 256, 2, 16
SCALE_BYTES, BIAS_BYTES = 2, 4
FACTOR_STEPS = 127
"""What a row is multiplied with is rounded to whole parts of the largest of its group by this."""


def middle(bits: int) -> float:
    return (2**bits - 1) / 2


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
    """Bytes of all rows, in whole lots of LANES."""
    return -(-rows // LANES) * LANES * row_bytes(axes)
