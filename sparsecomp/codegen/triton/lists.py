"""How lists of units lie and are made, as kernels are told (`kernels/lists.py` reads them)."""

from __future__ import annotations

from typing import NamedTuple

from xdsl.ir import SSAValue

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import buffer_of, shape_of

from .policy import blocks, next_power

SEGMENTS = 256
"""About as many a list has that is made where scores are: programs that read scores' weights keep a
GPU busy, and whoever reads the list adds up so many counts."""
LEAST_SEGMENT, MOST_SEGMENT = 16, 256
"""Units of such a segment: what one program scores at once."""
SELECT_BLOCK = 1024
"""Units of a segment of a list that is made from scores in memory."""


class Segments(NamedTuple):
    """A list in a `number` of segments, of units in order: first how many entries each of them has,
    then their entries, with room for `size` in each. One segment is a list as exec has it."""

    number: int
    size: int


class Choice(NamedTuple):
    """What is chosen by scores, and how the list of it lies.

    Units above a limit, with `below` not above another one; or where `best` is not 0 so many of
    each group, one behind the other in one segment: `total` of all groups.
    """

    segments: Segments
    below: bool
    best: int
    total: int
    group: int
    magnitude: bool
    scaled: bool
    or_all: bool


def units_of(op: exec.Select) -> int:
    """How many units a selection chooses from."""
    return shape_of(op.x)[-1]


def group_of(op: exec.Select) -> int:
    """Units that are chosen from at once: what one program decides on."""
    units = units_of(op)
    if op.group is not None and op.threshold is None:
        return min(op.group.value.data, units)
    if isinstance(op.parent_op(), exec.Launch):
        wanted = next_power(blocks(units, SEGMENTS))
        return max(LEAST_SEGMENT, min(MOST_SEGMENT, wanted))
    return min(SELECT_BLOCK, next_power(units))


def segments_of(op: exec.Select) -> Segments:
    """How the list of a selection lies: how many there are of each group is known if they are
    counted, so that these lie one behind the other."""
    units = units_of(op)
    if op.threshold is None:
        return Segments(1, units)
    return Segments(blocks(units, group_of(op)), group_of(op))


def choice(op: exec.Select) -> Choice:
    units, group, best, total = units_of(op), group_of(op), 0, 0
    if op.threshold is None:
        assert op.count is not None
        best = min(op.count.value.data, group)
        total = units // group * best + min(units % group, best)
    return Choice(
        segments_of(op),
        op.below is not None,
        best,
        total,
        group,
        op.magnitude is not None,
        op.scales is not None,
        op.or_all is not None,
    )


def maker(value: SSAValue) -> exec.Select:
    """The selection that makes a list."""
    buffer = buffer_of(value)
    assert buffer is not None
    makers = (use.operation for use in buffer.result.uses)
    return next(op for op in makers if isinstance(op, exec.Select) and op.out is value)


def lying(value: SSAValue | None) -> Segments | None:
    """How a list lies that is read; None where there is none."""
    return None if value is None else segments_of(maker(value))
