"""How a row of weights lies in memory in 8, 6, 5 or 4 bits: a plane of nibbles, and a low one.

A row is padded to blocks of BLOCK weights; GROUP weights share a scale s, a byte times the scale
of the row (bfloat16). A plane has a part of each weight. The high one has nibbles: in each block of
64 places, byte i has place i in its low half and place 32 + i in its high half; after them the
groups' bytes, the row's outlier and its scale, and what is missing to whole words, which a GPU
reads. The low plane has the same of 8 bits; of 6, in byte i two bits of places i, 16 + i, 32 + i
and 48 + i, the first lowest; of 5, in byte i a bit of places i, 8 + i, 16 + i, .. and 56 + i; of 4
nothing.

Rows that are added to a sum are *plain*: the weights lie in order. Rows that are multiplied are
*spread*, so that a lane of a vector, four places, keeps to one group over many blocks and its sum
is scaled once. Blocks form chunks: as many of 8 as there are, then at most one of 4, of 2 and of 1.
A chunk of V blocks has 2 V groups, each cut into V pieces; block v has piece v of each group.

8 bits: weight = s (16 high + low - 128), and 4 bits: s (16 high - 120.5): the same with unknown
bits at their mean. So the high plane of a row of 8 bits says alone what one of 4 bits does.
In 6 and 5 bits levels lie closer together about 0, where most weights of a group are: of
c = 16 high + 4 low - 126, or 16 high + 8 low - 124, a weight is s (c (192 + c^2 // 256) // 256 +
0.5). So it is an integer of 8 bits still, as products of integers need it, and half a step. Beside
equal steps this leaves 12 to 20 % less of an output's squared error (8 matrices of SmolLM2, GPTQ).

The outlier is the one weight of a row that stands out most of its group. Its place (uint16) says
where its value (bfloat16) is added to what the nibbles say, which is about 0 there. A few rows of
down are little else than one large weight, which meets activations as large: rounding what shares
its scale would change the model.
"""

from __future__ import annotations

from enum import StrEnum, auto

BLOCK = 64
GROUP = 32
SCALE_STEPS = 255
"""The largest scale of a group, in scales of its row."""
OUTLIER_BYTES, ROW_SCALE_BYTES = 4, 2
WORD = 4
MAX_WIDTH = 1 << 16
"""Weights of a row whose outlier has an index."""
HIGH_BITS = 4
EQUAL_STEPS = (8, 4)
"""The bits in which what codes stand for is equally far apart."""
FACTOR_STEPS = 127 * 128
"""What a row is multiplied with is rounded to whole parts of the largest of its group by this."""


class Order(StrEnum):
    """Which weight lies in which place of the blocks of a row."""

    PLAIN = auto()
    SPREAD = auto()


def chunks(width: int) -> list[int]:
    """The blocks of each chunk of a spread row of `width` weights, padded."""
    blocks = width // BLOCK
    return [8] * (blocks // 8) + [size for size in (4, 2, 1) if blocks & size]


def padded(weights: int) -> int:
    """The weights of a row with its padding."""
    return -(-weights // BLOCK) * BLOCK


def high_bytes(weights: int) -> int:
    """Bytes of the high plane of a row, with its scales and its outlier."""
    used = padded(weights) // 2 + padded(weights) // GROUP + OUTLIER_BYTES + ROW_SCALE_BYTES
    return -(-used // WORD) * WORD


def low_bytes(weights: int, bits: int) -> int:
    """Bytes of the low plane of a row in 8, 6, 5 or 4 bits."""
    return padded(weights) * (bits - HIGH_BITS) // 8


def level(code: int, bits: int) -> float:
    """What a code of 8, 6, 5 or 4 bits stands for before it is scaled, -128 to 127."""
    unknown_mean = (2 ** (8 - bits) - 1) / 2
    if bits in EQUAL_STEPS:
        return code * 2 ** (8 - bits) + unknown_mean - 128
    c = code * 2 ** (8 - bits) + int(unknown_mean - 127.5)
    return (c * (192 + c * c // 256)) // 256 + 0.5


def row_bytes(weights: int, bits: int) -> int:
    """Bytes of a row in 8, 6, 5 or 4 bits."""
    return high_bytes(weights) + low_bytes(weights, bits)


def pays(weights: int, bits: int) -> bool:
    """Whether a row takes less than in 16 bits, and can be kept so."""
    return row_bytes(weights, bits) < weights * 2 and weights <= MAX_WIDTH
