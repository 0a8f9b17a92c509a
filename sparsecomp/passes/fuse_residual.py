"""fuse-residual: what is added to the sum of all workers' parts is added by that sum.

On a GPU, where each kernel is a launch, what is added to a linear is added by that linear too.
"""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.rewriter import Rewriter

from sparsecomp.dialects import aten, exec
from sparsecomp.dialects.exec import shape_of
from sparsecomp.options import Device

from .base import Form, Pass, PassContext
from .forms import programs


def added(op: exec.Sum | exec.Linear) -> tuple[exec.Map, SSAValue] | None:
    """The map that adds a buffer of the same shape to a result that nothing else reads."""
    users = [use.operation for use in op.out.uses if use.operation is not op]
    if op.residual is not None or len(users) != 1:
        return None
    (user,) = users
    if not isinstance(user, exec.Map) or len(user.ins) != 2:
        return None
    first, *rest = user.body.block.ops
    if not isinstance(first, aten.Add) or first.arg("alpha") != 1 or len(rest) != 1:
        return None
    (other,) = (value for value in user.ins if value is not op.out)
    # Rows that lie in order, and no broadcast: what the kernel reads.
    whole = isinstance(other.owner, exec.Buffer) and isinstance(user.out.owner, exec.Buffer)
    if not whole or not shape_of(other) == shape_of(op.out) == shape_of(user.out):
        return None
    return user, other


class FuseResidual(Pass):
    name = "fuse-residual"
    help = "add the residual where the workers' parts are summed, on a GPU in linears too"
    requires = (Form.KERNELS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        kinds = exec.Sum | exec.Linear if ctx.device is Device.CUDA else exec.Sum
        for program in programs(module):
            for op in list(program.body.block.ops):
                if isinstance(op, kinds) and (found := added(op)) is not None:
                    add, residual = found
                    # The residual may be computed between the two: the kernel moves down.
                    both = type(op).create(
                        operands=[op.x, residual, add.out],
                        properties=dict(op.properties),
                        attributes=dict(op.attributes),
                    )
                    between = op.out.owner
                    assert isinstance(between, exec.Buffer)
                    Rewriter.replace_op(add, both, [])
                    Rewriter.erase_op(op)
                    Rewriter.erase_op(between)
