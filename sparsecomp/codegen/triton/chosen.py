"""What a kernel that scores units is told of the lists that it makes from its scores."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import SSAValue

from sparsecomp.dialects import exec

from .call import (
    NO_COUNTS,
    NO_LIST,
    NULL,
    Argument,
    Constant,
    counts,
    floats,
    limits,
    listed,
    weights,
)
from .lists import choice, group_of, segments_of
from .policy import Tile, next_power, scoring_tile

MOST = 2
"""Lists that one kernel makes."""


@dataclass(frozen=True)
class Selections:
    """Up to two selections by the scores that a kernel computes. `keep`: whether anybody else reads
    the scores."""

    ops: tuple[exec.Select, ...] = ()
    keep: bool = True

    def scores(self, value: SSAValue) -> Argument:
        """Where the kernel writes its scores."""
        return floats(value) if self.keep else NULL

    @property
    def arguments(self) -> list[Argument]:
        """Scales, limits, list and counters of each."""
        none = [NULL, NULL, NO_LIST, NO_COUNTS]
        given = [selection_arguments(op) for op in self.ops]
        return [argument for one in (*given, none, none)[:MOST] for argument in one]

    @property
    def constants(self) -> dict[str, Constant]:
        first, other = (*map(choice, self.ops), None, None)[:MOST]
        return {"KEEP": self.keep, "CHOICE": first, "OTHER": other}

    def tile(self, width: int) -> Tile:
        """For rows of so many weights: a program scores all units of a group."""
        (group,) = {group_of(op) for op in self.ops}
        return scoring_tile(next_power(group), width)


def selection_arguments(op: exec.Select) -> list[Argument]:
    """Scales, limits, list and counters of a selection."""
    made = [listed(op.out), counts(op, segments_of(op).number)]
    return [weights(op, "scales"), limits(op), *made]
