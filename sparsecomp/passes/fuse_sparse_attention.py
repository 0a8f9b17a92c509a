"""fuse-sparse-attention: heads that attention leaves out cost no query and no output projection.

An attention that keeps some heads ignores the queries of the others and gives 0 for them. So the
linear that makes its queries needs the rows of the kept heads alone, and the linear after it the
columns of the kept heads alone (Deja Vu, arXiv 2310.17157, section 4.2). What stands between must
treat each head alone. Keys and values are always computed: a later token may keep other heads.
"""

from __future__ import annotations

import math

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.rewriter import Rewriter

from sparsecomp.dialects import aten, spz

from .base import Form, Pass, PassContext, functions
from .build import shape_of


def _size(value: SSAValue) -> int:
    """Elements of a row."""
    return math.prod(shape_of(value)[1:])


def treats_heads_alone(op: Operation, value: SSAValue, heads: int) -> bool:
    """Whether each head of an op's result depends on that head alone of `value`.

    The heads of a value are equal parts of its row, in order.
    """
    match op:
        case aten.Reshape():
            return True
        case spz.RmsNorm() | spz.LayerNorm() | spz.Rope():
            return _size(value) // heads % shape_of(value)[-1] == 0
        case aten.Elementwise():
            return shape_of(op.results[0]) == shape_of(value)
        case _:
            return False


def _readers(value: SSAValue, attention: Operation, heads: int) -> set[Operation] | None:
    """The ops from a value to the queries of an attention, and the attention.

    None when the value is read in another way too, or heads are mixed.
    """
    found: set[Operation] = set()
    stack = [value]
    while stack:
        value = stack.pop()
        for use in value.uses:
            op = use.operation
            if op is attention and use.index == 0:
                found.add(op)
                continue
            if op is attention or not treats_heads_alone(op, value, heads):
                return None
            if op not in found:
                found.add(op)
                stack += op.results
    return found


def _projection(attention: spz.CachedAttention) -> spz.Linear | None:
    """The linear that alone reads the heads of an attention, side by side."""
    value: SSAValue = attention.result
    while (user := value.get_user_of_unique_use()) is not None:
        if isinstance(user, spz.Linear):
            return user if len(shape_of(user.x)) == 2 else None
        if not isinstance(user, aten.Reshape):
            return None
        value = user.results[0]
    return None


def _replace(op: spz.Linear, side: spz.Side, select: spz.Select) -> spz.SparseLinear:
    """Replace a linear by one that reads the selected heads of a side."""
    kept = {name: op.properties[name] for name in ("weight", "bias") if name in op.properties}
    sparse = spz.SparseLinear.create(
        operands=[op.x, select.result],
        properties=kept | {"side": spz.SideAttr(side), "density": select.density},
        attributes=dict(op.attributes),
        result_types=[op.result.type],
    )
    Rewriter.replace_op(op, sparse)
    return sparse


class FuseSparseAttention(Pass):
    name = "fuse-sparse-attention"
    help = "read the query and output projections of selected heads alone"
    requires = (Form.ROWS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for func in functions(module):
            for op in list(func.body.block.ops):
                # Of many rows each would keep its own heads: the weights are read anyway.
                if isinstance(op, spz.CachedAttention) and shape_of(op.q)[0] == 1:
                    select = op.selection.owner if op.selection is not None else None
                    if isinstance(select, spz.Select):
                        _fuse(func.body.block, op, select)


def _fuse(block: Block, attention: spz.CachedAttention, select: spz.Select) -> None:
    if (projection := _projection(attention)) is not None:
        _replace(projection, spz.Side.INPUTS, select)
    for linear in list(block.ops):
        if not isinstance(linear, spz.Linear) or len(shape_of(linear.x)) != 2:
            continue
        readers = _readers(linear.result, attention, shape_of(select.result)[1])
        if readers is None or attention not in readers:
            continue
        sparse = _replace(linear, spz.Side.OUTPUTS, select)
        if sparse.is_before_in_block(select):
            # The selection was made after the queries: they move behind it.
            path = {sparse, *readers} - {attention}
            for op in [op for op in block.ops if op in path]:
                op.detach()
                block.insert_op_before(op, attention)
