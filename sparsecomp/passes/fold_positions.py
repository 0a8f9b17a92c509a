"""fold-positions: what depends on positions alone becomes a table with a row per position.

Evaluated, not pattern-matched: rotary angles, sinusoids, learned positions are all tables here,
whatever formula made them. The function gains `%positions`, and a table is read by it.
"""

from __future__ import annotations

import torch
from xdsl.builder import Builder
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    FunctionType,
    ModuleOp,
    SymbolRefAttr,
    TensorType,
    i64,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.rewriter import InsertPoint
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten, spz

from .base import Pass, PassContext, PassError, functions, module_path
from .build import permute, reshape, shape_of
from .kinds import Kind, classify, dynamic_dims, enters_program
from .outline import Outliner, clone_slice


class FoldPositions(Pass):
    name = "fold-positions"
    help = "turn what depends on positions alone into tables read by position"

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        outliner = Outliner(module)
        for func in functions(module):
            kinds = classify(func)
            positions = _add_positions(func)
            for op in reversed(list(func.body.block.ops)):
                # A last reshape stays in the program, so that equal tables are seen to be equal.
                if (
                    isinstance(op, aten.Reshape)
                    and kinds[op.results[0]] is Kind.POSITION
                    and enters_program(op.results[0], kinds)
                ):
                    kinds[op.results[0]] = Kind.TOKEN
            for op in list(func.body.block.ops):
                for result in op.results:
                    if kinds[result] is Kind.POSITION and enters_program(result, kinds):
                        _check_local(result, op, ctx)
                        _replace(result, op, positions, outliner)
        region_dce(module.body)


def _add_positions(func: FuncOp) -> SSAValue:
    type = TensorType(i64, [DYNAMIC_INDEX])
    argument = func.body.block.insert_arg(type, 1)
    argument.name_hint = "positions"
    func.properties["function_type"] = FunctionType.from_lists(
        [a.type for a in func.body.block.args], list(func.function_type.outputs)
    )
    return argument


def _check_local(value: SSAValue, op: Operation, ctx: PassContext) -> None:
    """A table's row may depend on its own position only, not on how many there are."""
    if len(dynamic_dims(value)) != 1:
        raise PassError(op, "depends on pairs of positions outside attention")
    (dim,) = dynamic_dims(value)
    last = ctx.positions - 1
    short, long, far = (
        ctx.evaluate([value], {}, length=len(at), weights=ctx.weights, positions=torch.tensor(at))[
            0
        ]
        for at in (range(5), range(11), (0, 1, 2, 3, last))
    )
    alone = torch.equal(short, long.narrow(dim, 0, 5)) if short.shape[dim] == 5 else False
    if not alone or not torch.equal(short.narrow(dim, 0, 4), far.narrow(dim, 0, 4)):
        raise PassError(op, "depends on how long the sequence is")


def _replace(value: SSAValue, op: Operation, positions: SSAValue, outliner: Outliner) -> None:
    (dim,) = dynamic_dims(value)
    shape = shape_of(value)
    order = [dim, *(d for d in range(len(shape)) if d != dim)]
    path = module_path(op)
    block = Block()
    front = permute(clone_slice(value, block, {}), order)
    block.add_op(front)
    # Dimensions of size 1 say nothing in a table.
    flat = reshape(front.results[0], [n for n in shape_of(front.results[0]) if n != 1] or [-1])
    block.add_op(flat)
    short = op.name.removeprefix("aten.").partition(".")[0]
    name, type = outliner.add(f"{path}.{short}" if path else short, block, flat.results[0])
    builder = Builder(InsertPoint.before(op))
    table = spz.Embed.build(
        operands=[positions],
        properties={"table": SymbolRefAttr(name)},
        result_types=[type],
    )
    builder.insert(table)
    wide = builder.insert(reshape(table.result, [shape[d] for d in order], path))
    inverse = [order.index(d) for d in range(len(order))]
    back = builder.insert(permute(wide.results[0], inverse, path))
    value.replace_all_uses_with(back.results[0])
