"""fuse-rope: for a GPU, queries are turned where they are read, keys where they are cached.

Each kernel is a launch, and this one would take longer to launch than to run.
"""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import Rewriter

from sparsecomp.dialects import exec

from .base import Form, Pass, PassContext
from .forms import programs

TURNING = ("cos", "sin", "rotary", "pairing")


def reader(op: exec.Rope) -> exec.Append | exec.Attend | None:
    """The one kernel that reads what was turned, as its keys or queries."""
    uses = [use for use in op.out.uses if use.operation is not op]
    if len(uses) != 1 or uses[0].index != 0:
        return None
    user = uses[0].operation
    return user if isinstance(user, exec.Append | exec.Attend) else None


class FuseRope(Pass):
    name = "fuse-rope"
    help = "for a GPU: turn queries where they are read, keys where they are cached"
    requires = (Form.KERNELS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for program in programs(module):
            for op in list(program.body.block.ops):
                if not isinstance(op, exec.Rope) or (user := reader(op)) is None:
                    continue
                # Memory is not planned yet, so a buffer has one value: reading it later is safe.
                user.operands[0] = op.x
                user.properties |= {name: op.properties[name] for name in TURNING}
                turned = op.out.owner
                Rewriter.erase_op(op)
                assert isinstance(turned, exec.Buffer)
                Rewriter.erase_op(turned)
