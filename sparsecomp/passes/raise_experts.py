"""raise-experts: products with the weights of chosen experts become spz.expert_linear.

A mixture of experts flattens (token, choice) into one dimension, gathers a matrix for each, and
multiplies. Here the dimension is taken apart again, (s, choices, ...), so that every token is a row
once more, and a gather with its product becomes one op that reads the chosen experts alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.builder import Builder
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, StringAttr, SymbolRefAttr, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.rewriter import InsertPoint
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten, spz

from .base import Pass, PassContext, PassError, functions, module_path
from .build import permute, reshape, shape_of, sizes, tensor_type
from .outline import Outliner


@dataclass(frozen=True)
class Choices:
    """A value of shape (choices * s, ...) taken apart: `value` is (s, choices, ...)."""

    value: SSAValue
    count: int


@dataclass(frozen=True)
class Gather:
    """`weight[experts]`, not computed: experts is (s, choices), `order` reorders one matrix."""

    weight: SSAValue
    experts: SSAValue
    count: int
    transposed: bool = False


class Unflattener:
    """Rewrites one function."""

    def __init__(self, func: FuncOp, outliner: Outliner):
        self.func = func
        self.outliner = outliner
        self.choices: dict[SSAValue, Choices] = {}
        self.gathers: dict[SSAValue, Gather] = {}

    def run(self) -> None:
        for op in list(self.func.body.block.ops):
            self.builder = Builder(InsertPoint.before(op))
            self.path = module_path(op)
            match op:
                case aten.RepeatInterleave():
                    self._repeat(op)
                case aten.Reshape():
                    self._reshape(op)
                case aten.Permute() if op.operands[0] in self.gathers:
                    self._transpose(op)
                case aten.Index():
                    self._gather(op)
                case aten.Bmm() | aten.Matmul():
                    self._product(op)
                case aten.Add() if any(o in self.gathers for o in op.operands):
                    self._bias(op)
                case aten.Elementwise() | aten.Slice() if self._reads_choices(op):
                    self._same(op)

    def _reads_choices(self, op: Operation) -> bool:
        return any(o in self.choices for o in op.operands)

    def _reshaped(self, value: SSAValue, shape: Sequence[int]) -> SSAValue:
        if shape_of(value) == tuple(shape):
            return value
        return self.builder.insert(reshape(value, shape, self.path)).results[0]

    def _repeat(self, op: aten.RepeatInterleave) -> None:
        """Each token's row once for each choice."""
        source = op.operands[0]
        shape, count = shape_of(source), op.arg("repeats")
        if op.arg("dim") != 0 or shape[0] != DYNAMIC_INDEX or not isinstance(count, int):
            return
        one = self._reshaped(source, (DYNAMIC_INDEX, 1, *shape[1:]))
        many = (DYNAMIC_INDEX, count, *shape[1:])
        type = TensorType(tensor_type(source).element_type, many)
        expand = aten.Expand.call({"self": one, "size": sizes(many)}, [type], self.path)
        self.choices[op.results[0]] = Choices(self.builder.insert(expand).results[0], count)

    def _reshape(self, op: aten.Reshape) -> None:
        source, result = op.operands[0], op.results[0]
        have, want = (_per_position(shape_of(v)) for v in (source, result))
        if have is None or want is None:
            return
        known = self.choices.get(source)
        if known is not None and have * known.count == want:
            # Taken apart by the model itself: an ordinary value again.
            result.replace_all_uses_with(self._reshaped(known.value, shape_of(result)))
        elif known is not None and have == want:
            shape = (DYNAMIC_INDEX, known.count, *shape_of(result)[1:])
            self.choices[result] = Choices(self._reshaped(known.value, shape), known.count)
        elif known is None and have > want and shape_of(result)[0] == DYNAMIC_INDEX:
            count = have // want
            shape = (DYNAMIC_INDEX, count, *shape_of(result)[1:])
            self.choices[result] = Choices(self._reshaped(source, shape), count)

    def _gather(self, op: aten.Index) -> None:
        weight, *indices = op.operands
        if len(indices) == 1 and indices[0] in self.choices and not op.arg_holes("indices")[0]:
            experts = self.choices[indices[0]]
            self.gathers[op.results[0]] = Gather(weight, experts.value, experts.count)

    def _transpose(self, op: aten.Permute) -> None:
        gather = self.gathers[op.operands[0]]
        if [d % 3 for d in op.arg("dims")] == [0, 2, 1]:
            self.gathers[op.results[0]] = Gather(
                gather.weight, gather.experts, gather.count, not gather.transposed
            )

    def _product(self, op: aten.AtenOp) -> None:
        """`weight[experts] @ x` with x a column, or `x @ weight[experts]` with x a row."""
        a, b = op.operands
        if a in self.gathers and b in self.choices:
            gather, x, input_first = self.gathers[a], self.choices[b], False
        elif b in self.gathers and a in self.choices:
            gather, x, input_first = self.gathers[b], self.choices[a], True
        else:
            return
        symbol, (_, outputs, inputs) = self._weight(gather, input_first)
        rows = self._reshaped(x.value, (DYNAMIC_INDEX, x.count, inputs))
        linear = spz.ExpertLinear.create(
            operands=[rows, gather.experts],
            properties={"weight": symbol},
            attributes={"module": StringAttr(self.path)},
            result_types=[
                TensorType(tensor_type(x.value).element_type, [DYNAMIC_INDEX, x.count, outputs])
            ],
        )
        self.builder.insert(linear)
        shape = (DYNAMIC_INDEX, x.count, *shape_of(op.results[0])[1:])
        self.choices[op.results[0]] = Choices(self._reshaped(linear.result, shape), x.count)

    def _weight(self, gather: Gather, input_first: bool) -> tuple[SymbolRefAttr, tuple[int, ...]]:
        """The symbol of the experts' matrices as (experts, out, in), and that shape."""
        get = gather.weight.owner
        assert isinstance(get, aten.Get)
        name, shape = get.weight.string_value(), shape_of(gather.weight)
        if gather.transposed == input_first:
            return SymbolRefAttr(name), shape
        block = Block()
        source = aten.Get(name, gather.weight.type)
        block.add_op(source)
        turned = permute(source.result, (0, 2, 1))
        block.add_op(turned)
        symbol, type = self.outliner.add(f"{name}.transposed", block, turned.results[0])
        return SymbolRefAttr(symbol), type.get_shape()

    def _bias(self, op: aten.Add) -> None:
        """`expert_linear(x) + bias[experts]`."""
        for value, bias in (tuple(op.operands), tuple(reversed(op.operands))):
            gather, product = self.gathers.get(bias), self.choices.get(value)
            if gather is None or product is None:
                continue
            linear = product.value.owner
            while isinstance(linear, aten.Reshape):
                linear = linear.operands[0].owner
            get = gather.weight.owner
            if (
                isinstance(linear, spz.ExpertLinear)
                and linear.bias is None
                and isinstance(get, aten.Get)
                and linear.experts is gather.experts
            ):
                linear.properties["bias"] = get.weight
                self.choices[op.results[0]] = product
                return

    def _same(self, op: aten.AtenOp) -> None:
        """The op on taken-apart operands: one more dimension after the tokens."""
        count = next(self.choices[o].count for o in op.operands if o in self.choices)
        arguments: dict[str, object] = {}
        for name, value in op.arguments().items():
            known = self.choices.get(value) if isinstance(value, SSAValue) else None
            if known is not None:
                value = known.value
            elif isinstance(value, SSAValue) and DYNAMIC_INDEX in shape_of(value):
                raise PassError(op, "combines tokens with choices of experts")
            elif name == "dim" and value >= 0:
                value += 1
            arguments[name] = value
        if isinstance(op, aten.Slice) and op.arg("dim") % len(shape_of(op.results[0])) == 0:
            return
        shape = (DYNAMIC_INDEX, count, *shape_of(op.results[0])[1:])
        type_ = TensorType(tensor_type(op.results[0]).element_type, shape)
        new = type(op).call(arguments, [type_], self.path)
        self.choices[op.results[0]] = Choices(self.builder.insert(new).results[0], count)


def _per_position(shape: Sequence[int]) -> int | None:
    """Elements for each step of the one dynamic dimension."""
    if list(shape).count(DYNAMIC_INDEX) != 1:
        return None
    return math.prod(n for n in shape if n != DYNAMIC_INDEX)


class RaiseExperts(Pass):
    name = "raise-experts"
    help = "products with the weights of chosen experts become spz.expert_linear"

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        outliner = Outliner(module)
        for func in functions(module):
            Unflattener(func, outliner).run()
        region_dce(module.body)
