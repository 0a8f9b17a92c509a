"""fuse-norms: for a GPU, a row is normed where it is read, in the launch of each that reads it.

Each program of such a launch finds mean and deviation for itself, out of cache: less than what
launching the norm alone would take, while few launches do.
"""

from __future__ import annotations

from typing import TypeGuard

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.rewriter import Rewriter

from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import shape_of

from .base import Form, Pass, PassContext
from .forms import programs
from .fuse_linears import launch
from .streams import each

MOST = 3
"""Launches that may each norm the same row."""

PRODUCTS = (
    exec.Linear | exec.SparseLinear | exec.Mlp | exec.SparseMlp | exec.Neurons | exec.SparseHead
)
"""Kernels that multiply rows of weights with their first operand."""


def readers(op: exec.Norm) -> list[exec.Kernel]:
    """The kernels that are to norm a row themselves; none where somebody else reads it too.

    A norm of each head stays, and so does one of many rows.
    """
    if len(shape_of(op.x)) != 2 or shape_of(op.x)[0] != 1:
        return []
    found = list(dict.fromkeys(_launched(use.operation) for use in op.out.uses))
    found.remove(op)
    kernels = [reader for reader in found if _can_norm(reader, op.out)]
    return kernels if len(kernels) == len(found) <= MOST else []


def _launched(op: Operation) -> Operation:
    """What a kernel is launched in."""
    outer = op.parent_op()
    return outer if isinstance(outer, exec.Launch) else op


def _can_norm(reader: Operation, row: SSAValue) -> TypeGuard[exec.Kernel]:
    """Whether all products of a kernel are of that row, and it reads it for nothing else."""
    if not isinstance(reader, exec.Kernel):
        return False
    kernels = [op for op in each(reader) if not isinstance(op, exec.Select)]
    return all(isinstance(op, PRODUCTS) and _multiplies(op, row) for op in kernels)


def _multiplies(op: exec.Kernel, row: SSAValue) -> bool:
    first, *others = op.inputs
    by_columns = isinstance(op, exec.SparseLinear) and op.side.data is spz.Side.INPUTS
    return first is row and row not in others and not by_columns


def move(op: exec.Norm, reader: exec.Kernel) -> None:
    """Norm in the launch of a kernel.

    Memory is not planned yet, so a buffer has one value: reading later what is normed is safe.
    """
    into = reader if isinstance(reader, exec.Launch) else launch([reader])
    inside = exec.Buffer.create(result_types=[op.out.type])
    inside.result.name_hint = op.out.name_hint
    op.out.replace_uses_with_if(inside.result, lambda use: _launched(use.operation) is into)
    first = into.body.block.first_op
    assert first is not None
    into.body.block.insert_ops_before([inside, op.clone({op.out: inside.result})], first)


class FuseNorms(Pass):
    name = "fuse-norms"
    help = "for a GPU: norm a row where it is read"
    requires = (Form.KERNELS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for program in programs(module):
            for op in list(program.body.block.ops):
                if isinstance(op, exec.Norm) and (found := readers(op)):
                    for reader in found:
                        move(op, reader)
                    normed = op.out.owner
                    Rewriter.erase_op(op)
                    assert isinstance(normed, exec.Buffer)
                    Rewriter.erase_op(normed)
