"""Where the rows of a storage lie, as kernels are told (`kernels/rows.py` reads them)."""

from __future__ import annotations

from typing import NamedTuple

from sparsecomp import nibbles
from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Layout, to_lines


class Rows(NamedTuple):
    """Rows of `width` weights. In 32 and 16 bits they begin `at`, and `stride` apart, in elements.

    In 8 bits and less these are bytes to their high planes, and `low` ones to their low planes.
    Rows that are multiplied are `spread` then (see nibbles.py).
    """

    bits: int
    width: int
    at: int
    stride: int
    low: int = 0
    low_stride: int = 0
    spread: bool = False

    @property
    def coarse(self) -> Rows:
        """What the high planes say alone: rows in 4 bits."""
        return self._replace(bits=4, low=0, low_stride=0)

    def each(self, step: int, first: int) -> Rows:
        """Every so many rows, from this one on."""
        return self._replace(
            at=self.at + first * self.stride,
            stride=step * self.stride,
            low=self.low + first * self.low_stride,
            low_stride=step * self.low_stride,
        )


def matrix(storage: exec.Storage) -> Rows:
    """The rows of a matrix; of one that is stored by columns, its columns."""
    count, width = storage.rows
    if not storage.quantised:
        return Rows(storage.bits, width, 0, width)
    high = nibbles.high_bytes(width)
    low_stride = nibbles.low_bytes(width, storage.bits)
    low = to_lines(count * high) if low_stride else 0
    return Rows(
        storage.bits, width, 0, high, low, low_stride, storage.layout.data is not Layout.COLUMNS
    )


def inputs_of(storage: exec.Storage) -> tuple[Rows, ...]:
    """Of neurons: the rows of (gate,) up."""
    if storage.layout.data is Layout.NEURON_MAJOR:
        return neurons_of(storage)[:-1]
    parts = len(storage.of)
    return tuple(matrix(storage).each(parts, part) for part in range(parts))


def neurons_of(storage: exec.Storage) -> tuple[Rows, ...]:
    """Of a feed-forward block: the rows of (gate,) up, and those of down."""
    assert storage.layout.data is Layout.NEURON_MAJOR
    count, inputs, outputs = storage.dims
    widths = [inputs] * (len(storage.of) - 1) + [outputs]
    if storage.quantised:
        return _in_sheets(storage, count, widths)
    item = storage.bits // 8
    sizes = [size // item for size in storage.part_bytes]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(
        Rows(storage.bits, width, at, sum(sizes)) for width, at in zip(widths, starts, strict=True)
    )


def _in_sheets(storage: exec.Storage, count: int, widths: list[int]) -> tuple[Rows, ...]:
    """High planes of gate and up, then those of down, then a neuron's low planes side by side."""
    first, second, *third = storage.sheets
    down = to_lines(count * first)
    low, low_stride = (down + to_lines(count * second), third[0]) if third else (0, 0)
    found = []
    for i, width in enumerate(widths):
        projected = i < len(widths) - 1
        at, stride = (i * nibbles.high_bytes(width), first) if projected else (down, second)
        found.append(Rows(storage.bits, width, at, stride, low, low_stride, projected))
        low += nibbles.low_bytes(width, storage.bits)
    return tuple(found)
