"""Sizes of blocks and numbers of programs.

A GPU has some hundred processors with room for several programs each: a kernel that reads much is
cut into `PROGRAMS` of them or more. A program that reads rows has `TILE` weights under way at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PROGRAMS = 264
"""Two for each processor of an H100."""
TILE = 4096
"""Weights that a program of a matrix product has under way."""
SCORING_TILE = 2 * TILE
"""The same of a program that chooses from what it computes: there are fewer of these."""
ELEMENTS = 512
"""Of a row, for a program that does little else than read and write."""
TILE_ROWS = 64
"""Rows of activations that a program multiplies at once, at most."""
LEAST_DOT = 16
"""The least size that tensor cores take."""
ELEMENTS_PER_THREAD = 16
"""Of a program that does little else than read and write."""


def next_power(n: int) -> int:
    """The least power of two from n on: sizes of blocks are powers of two."""
    return 1 << max(n - 1, 0).bit_length()


def block(size: int, largest: int) -> int:
    """The largest block that leaves at most an eighth of what all take empty."""
    candidate = min(largest, next_power(size))
    while candidate > 128 and math.ceil(size / candidate) * candidate > 1.125 * size:
        candidate //= 2
    return candidate


def row_block(width: int, largest: int = 1 << 20) -> int:
    """The same for rows of weights: quantised ones lie in blocks of 64."""
    return max(64, block(width, largest))


def blocks(size: int, block: int) -> int:
    """How many blocks it takes."""
    return math.ceil(size / block)


def warps(elements: int, most: int = 4) -> int:
    """Warps of a program with a tile of so many elements."""
    return max(1, min(most, next_power(elements) // (32 * ELEMENTS_PER_THREAD)))


@dataclass(frozen=True)
class Tile:
    """What a program that multiplies rows of weights has under way at once."""

    rows: int
    columns: int
    warps: int


def row_tile(rows: float, width: int) -> Tile:
    """For about so many rows in all, so that all programs have some."""
    block_n = next((n for n in (4, 2) if rows >= 2 * n * PROGRAMS), 1)
    block_k = row_block(width, TILE // block_n)
    return Tile(block_n, block_k, warps(2 * block_n * block_k, most=8))


def scoring_tile(rows: int, width: int) -> Tile:
    """For all rows that a program must have scored before it can choose."""
    block_k = row_block(width, SCORING_TILE // rows)
    return Tile(rows, block_k, warps(2 * rows * block_k, most=16))
