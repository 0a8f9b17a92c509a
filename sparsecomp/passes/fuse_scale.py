"""fuse-scale: for a GPU, queries that are multiplied by a number are so where they are read.

Models like OPT scale queries and not their products with keys; on its own that takes longer to
launch than to run.
"""

from __future__ import annotations

from xdsl.dialects.builtin import Float64Type, FloatAttr, ModuleOp
from xdsl.rewriter import Rewriter

from sparsecomp.dialects import aten, exec
from sparsecomp.dialects.exec import shape_of

from .base import Form, Pass, PassContext
from .forms import programs


def scaling(op: exec.Attend) -> tuple[exec.Map, float] | None:
    """The map that makes an attention's queries, and nothing else, and what it multiplies by."""
    queries = op.q
    while isinstance(queries.owner, exec.View) and queries.has_one_use():
        queries = queries.owner.source
    users = [use.operation for use in queries.uses]
    maps = [user for user in users if isinstance(user, exec.Map) and user.out is queries]
    if len(users) != 2 or len(maps) != 1:
        return None
    (made,) = maps
    first, *rest = made.body.block.ops
    if not isinstance(first, aten.MulScalar) or len(rest) != 1:
        return None
    (x,) = made.ins
    # Rows that lie in order, and no broadcast: views of the queries are views of these.
    if not isinstance(x.owner, exec.Buffer) or shape_of(x) != shape_of(queries):
        return None
    return made, float(first.arg("other"))


def fuse(op: exec.Attend, made: exec.Map, factor: float) -> None:
    """Memory is not planned yet, so a buffer has one value: reading it later is safe."""
    scaled = made.out.owner
    assert isinstance(scaled, exec.Buffer)
    made.out.replace_uses_with_if(made.ins[0], lambda use: use.operation is not made)
    op.properties["scale"] = FloatAttr(op.scale.value.data * factor, Float64Type())
    Rewriter.erase_op(made)
    Rewriter.erase_op(scaled)


class FuseScale(Pass):
    name = "fuse-scale"
    help = "for a GPU: scale queries where they are read"
    requires = (Form.KERNELS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for program in programs(module):
            for op in list(program.body.block.ops):
                if isinstance(op, exec.Attend) and (found := scaling(op)) is not None:
                    fuse(op, *found)
