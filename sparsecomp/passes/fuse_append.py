"""fuse-append: for a GPU, a decode step caches its new key and value where it attends to the cache.

Each kernel is a launch, and storing one position takes longer to launch than to run.
"""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Region
from xdsl.rewriter import InsertPoint, Rewriter

from sparsecomp.dialects import exec

from .base import Form, Pass, PassContext
from .forms import programs
from .fuse_rope import TURNING


def pairs(program: exec.Program) -> list[tuple[exec.Append, exec.Attend]]:
    """Of each slot that one kernel fills and then one reads, both, where they turn heads alike."""
    users: dict[int, list[exec.Append | exec.Attend]] = {}
    for op in program.body.block.ops:
        if isinstance(op, exec.Append | exec.Attend):
            users.setdefault(op.slot.value.data, []).append(op)
    found = []
    for ops in users.values():
        match ops:
            case [exec.Append() as append, exec.Attend() as attend] if _turn_alike(append, attend):
                found.append((append, attend))
    return found


def _turn_alike(append: exec.Append, attend: exec.Attend) -> bool:
    return all(append.properties.get(name) == attend.properties.get(name) for name in TURNING)


def fuse(program: exec.Program) -> None:
    """Each pair becomes a launch, where the second of it is."""
    for append, attend in pairs(program):
        # Memory is not planned yet, so a buffer has one value: reading it later is safe.
        launch = exec.Launch.create(regions=[Region(Block())])
        Rewriter.insert_op(launch, InsertPoint.before(attend))
        for op in (append, attend):
            op.detach()
            launch.body.block.add_op(op)


class FuseAppend(Pass):
    name = "fuse-append"
    help = "for a GPU: cache the new key and value of a decode step where it reads the cache"
    requires = (Form.KERNELS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for program in programs(module):
            if program.sym_name.data == "decode":
                fuse(program)
