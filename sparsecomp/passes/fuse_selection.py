"""fuse-selection: for a GPU, units are chosen where they are scored, in one launch.

A program of a launch decides on the units that it has scored by itself, so that there is no order
between programs, no sort, and no other launch: it writes its own segment of the list. That goes for
what is chosen above a threshold, and for the best of each group of units where one program scores
the whole group: up to MOST_IN_GROUP units, a power of two or all there are. What is chosen among
more units at once, as the rows of a vocabulary are, or by what all scores add up to, stays a kernel
of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, Region
from xdsl.rewriter import InsertPoint

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Layout, shape_of

from .base import Form, Pass, PassContext
from .forms import programs

MOST_IN_GROUP = 256
"""Units that one program scores at once."""
MOST_SELECTIONS = 2
"""By the same scores: the neurons computed in full, and those that count coarsely."""

Scoring = exec.Linear | exec.Neurons


def scores_alone(op: Operation) -> bool:
    """Whether a kernel computes one score for each unit, each from a row of weights."""
    if isinstance(op, exec.Neurons):
        return True
    if not isinstance(op, exec.Linear) or shape_of(op.out)[0] != 1:
        return False
    storage = exec.find_storage(op, op.weight)
    rows = math.prod(shape_of(op.x)) // storage.dims[1]
    return storage.layout.data is Layout.ROWS and rows == 1


def decides_at_once(op: exec.Select) -> bool:
    """Whether the scores of few units say which of them are chosen."""
    if op.or_all is not None or op.probability is not None:
        return False
    if op.threshold is not None:
        return True
    assert op.group is not None
    units, group = shape_of(op.x)[-1], op.group.value.data
    is_power = group & (group - 1) == 0
    return min(group, units) <= MOST_IN_GROUP and (is_power or group >= units)


def _group(op: exec.Select) -> int | None:
    return None if op.threshold is not None or op.group is None else op.group.value.data


def selections(op: Scoring, program: exec.Program) -> list[exec.Select]:
    """The selections that can be made where an op scores, in order: of groups of one size."""
    found = [
        user
        for user in program.body.block.ops
        if isinstance(user, exec.Select) and user.x is op.out and decides_at_once(user)
    ]
    alike = [user for user in found if _group(user) == _group(found[0])]
    return alike[:MOST_SELECTIONS]


def fuse(op: Scoring, chosen: Sequence[exec.Select]) -> None:
    """Moves selections into the launch of what scores, which has one of its own if need be."""
    launch = op.parent_op()
    if not isinstance(launch, exec.Launch):
        launch = exec.Launch.create(attributes=op.attributes, regions=[Region(Block())])
        Builder(InsertPoint.before(op)).insert(launch)
        op.detach()
        launch.body.block.add_op(op)
    for select in chosen:
        room = select.out.owner
        assert isinstance(room, exec.Buffer)
        room.detach()
        Builder(InsertPoint.before(launch)).insert(room)
        select.detach()
        launch.body.block.add_op(select)
    scores = op.out.owner
    if isinstance(scores, exec.Buffer) and all(
        use.operation.parent_op() is launch for use in op.out.uses
    ):
        scores.detach()
        launch.body.block.insert_op_before(scores, op)


class FuseSelection(Pass):
    name = "fuse-selection"
    help = "for a GPU: choose units where they are scored"
    requires = (Form.KERNELS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for program in programs(module):
            for op in list(program.walk()):
                if not isinstance(op, Scoring) or not scores_alone(op):
                    continue
                launch = op.parent_op()
                beside = launch.kernels if isinstance(launch, exec.Launch) else [op]
                if any(kernel is not op and not isinstance(kernel, exec.Norm) for kernel in beside):
                    continue  # a launch that does something else too
                if chosen := selections(op, program):
                    fuse(op, chosen)
