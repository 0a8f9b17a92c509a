"""Loops over dimensions: how few do, and where they read."""

from __future__ import annotations

from collections.abc import Sequence


def merge(sizes: list[int], strides: list[list[int]]) -> tuple[list[int], list[list[int]], int]:
    """Join neighbouring dimensions that every operand runs through as one.

    Returns the sizes, the strides, and how many of the new first dimension's steps make one of the
    old first dimension's.
    """
    sizes, strides = list(sizes) or [1], [list(s) or [0] for s in strides]
    merged = 1
    d = 0
    while d + 1 < len(sizes):
        if all(s[d] == s[d + 1] * sizes[d + 1] for s in strides):
            merged *= sizes[d + 1] if d == 0 else 1
            sizes[d : d + 2] = [sizes[d] * sizes[d + 1]]
            for s in strides:
                del s[d]
        else:
            d += 1
    return sizes, strides, merged


def subscript(strides: Sequence[int]) -> str:
    """The offset of an element by the loops' counters d0, d1, ..."""
    terms = [f"d{i}" if s == 1 else f"d{i} * {s}" for i, s in enumerate(strides) if s != 0]
    return " + ".join(terms) or "0"
