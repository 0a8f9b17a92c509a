"""split-linear: a linear whose result is only read in parts becomes one linear for each part.

A fused query-key-value or gate-up projection is cut at compile time, so that each part can get the
kernel and the layout it needs. Which outputs a part reads is whatever its slices and reshapes say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from xdsl.builder import Builder
from xdsl.dialects.builtin import ModuleOp, SymbolRefAttr, TensorType
from xdsl.ir import Block, Operation, SSAValue
from xdsl.rewriter import InsertPoint
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten, spz

from .base import Form, Pass, PassContext, functions
from .build import clone_with_rows, permute, reshape, shape_of, tensor_type
from .outline import Outliner

MOVES = (aten.Slice, aten.Reshape, aten.Permute)


def _parts(value: SSAValue, chain: tuple[Operation, ...] = ()) -> Iterator[tuple[Operation, ...]]:
    """The chains of moves from a value to each value that something else reads."""
    for use in value.uses:
        if isinstance(use.operation, MOVES):
            yield from _parts(use.operation.results[0], (*chain, use.operation))
        else:
            yield chain


def _worth_splitting(op: spz.Linear, chains: Sequence[Sequence[Operation]]) -> bool:
    """Whether every reader takes a part, and no output is in two parts' weights."""
    if len(shape_of(op.result)) != 2 or not all(
        any(isinstance(move, aten.Slice) for move in chain) for chain in chains
    ):
        return False
    return sum(_outputs(chain[-1].results[0]) for chain in chains) <= shape_of(op.result)[1]


def _outputs(value: SSAValue) -> int:
    """Elements of one row."""
    return math.prod(shape_of(value)[1:])


class SplitLinear(Pass):
    name = "split-linear"
    help = "a linear whose result is only read in parts becomes one linear for each part"
    requires = (Form.ROWS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        outliner = Outliner(module)
        types = {
            op.sym_name.data: op.type
            for op in module.ops
            if isinstance(op, aten.Weight | aten.Derived)
        }
        for func in functions(module):
            order = {op: index for index, op in enumerate(func.body.block.ops)}
            for op in order:
                if isinstance(op, spz.Linear):
                    chains = sorted(set(_parts(op.result)), key=lambda c: order[c[-1]] if c else 0)
                    if _worth_splitting(op, chains):
                        for chain in chains:
                            self._part(op, chain, outliner, types)
        region_dce(module.body)

    def _part(
        self,
        op: spz.Linear,
        chain: tuple[Operation, ...],
        outliner: Outliner,
        types: dict[str, TensorType],
    ) -> None:
        last = chain[-1].results[0]
        outputs = _outputs(last)
        properties = {}
        for key in ("weight", "bias"):
            symbol = op.properties.get(key)
            if isinstance(symbol, SymbolRefAttr):
                name = symbol.string_value()
                new, type = _select(name, types[name], chain, outputs, last, outliner)
                types[new] = type
                properties[key] = SymbolRefAttr(new)
        builder = Builder(InsertPoint.before(op))
        part = spz.Linear.create(
            operands=[op.x],
            properties=properties,
            attributes=dict(op.attributes),
            result_types=[TensorType(tensor_type(last).element_type, [shape_of(last)[0], outputs])],
        )
        builder.insert(part)
        value: SSAValue = part.result
        if value.type != last.type:
            value = builder.insert(reshape(value, shape_of(last))).results[0]
        last.replace_all_uses_with(value)


def _select(
    name: str,
    type: TensorType,
    chain: tuple[Operation, ...],
    outputs: int,
    last: SSAValue,
    outliner: Outliner,
) -> tuple[str, TensorType]:
    """The rows of a weight (or elements of a bias) that a chain of moves keeps.

    The moves are run on the weight itself: transposed, its inputs stand where tokens stood.
    """
    block = Block()
    get = aten.Get(name, type)
    block.add_op(get)
    is_bias = len(type.get_shape()) == 1
    rows = 1 if is_bias else type.get_shape()[1]
    first = (
        reshape(get.result, [1, type.get_shape()[0]]) if is_bias else permute(get.result, (1, 0))
    )
    block.add_op(first)
    value = first.results[0]
    for move in chain:
        new = clone_with_rows(move, {move.operands[0]: value}, rows)
        new.attributes.pop("module", None)
        block.add_op(new)
        value = new.results[0]
    flat = reshape(value, [outputs] if is_bias else [rows, outputs])
    block.add_op(flat)
    result = flat
    if not is_bias:
        result = permute(flat.results[0], (1, 0))
        block.add_op(result)
    suffix = last.name_hint or "part"
    return outliner.add(f"{name}.{suffix}", block, result.results[0])
