"""fuse-maps: a map that only one other map of the same shape reads moves into it."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Region, SSAValue
from xdsl.rewriter import Rewriter

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import shape_of

from .base import Form, Pass, PassContext
from .forms import programs


def source(op: exec.Map) -> exec.Map | None:
    """A map whose result `op` alone reads, whole and in its own shape.

    Memory is not planned yet, so a buffer has one value: reading later what the map reads is safe.
    """
    for value in op.ins:
        if not isinstance(value.owner, exec.Buffer) or shape_of(value) != shape_of(op.out):
            continue
        users = [use.operation for use in value.uses if use.operation is not op]
        if len(users) == 1 and isinstance(users[0], exec.Map) and users[0].out is value:
            return users[0]
    return None


def fused(first: exec.Map, second: exec.Map) -> exec.Map:
    """Both maps as one, without the buffer between them."""
    between = first.out
    ins = list(dict.fromkeys([*first.ins, *(v for v in second.ins if v is not between)]))
    scalar = first.body.block.args[0].type
    body = Block(arg_types=[scalar] * len(ins))
    known: dict[SSAValue, SSAValue] = dict(zip(ins, body.args, strict=True))
    for op in (first, second):
        inner: dict[SSAValue, SSAValue] = {
            arg: known[value] for arg, value in zip(op.body.block.args, op.ins, strict=True)
        }
        for call in op.body.block.ops:
            if not isinstance(call, exec.MapYield):
                body.add_op(call.clone(inner))
            else:
                known[op.out] = inner[call.value]
    body.add_op(exec.MapYield.create(operands=[known[second.out]]))
    return exec.Map.create(
        operands=[*ins, second.out],
        attributes=dict(second.attributes),
        regions=[Region(body)],
    )


class FuseMaps(Pass):
    name = "fuse-maps"
    help = "join chains of elementwise maps"
    requires = (Form.KERNELS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for program in programs(module):
            for op in program.body.block.ops:
                while isinstance(op, exec.Map) and (first := source(op)) is not None:
                    both, between = fused(first, op), first.out.owner
                    Rewriter.replace_op(op, both, [])
                    Rewriter.erase_op(first)
                    assert isinstance(between, exec.Buffer)
                    Rewriter.erase_op(between)
                    op = both
