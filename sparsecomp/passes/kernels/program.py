"""A program that is being built: its buffers, views and kernels, and where each value is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.builder import Builder
from xdsl.dialects.builtin import (
    DenseArrayBase,
    IntegerAttr,
    MemRefType,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    f32,
    i64,
)
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.rewriter import InsertPoint

from sparsecomp import nibbles
from sparsecomp.dialects import aten, exec, spz
from sparsecomp.dialects.exec import row_strides
from sparsecomp.options import Device
from sparsecomp.passes.build import shape_of
from sparsecomp.passes.choose_layouts import Need, Storages, matrix_need, symbols


@dataclass(frozen=True)
class Slot:
    """Where a value is: a part of a buffer's row."""

    value: SSAValue
    shape: tuple[int, ...]
    start: int
    strides: tuple[int, ...]
    base: SSAValue

    @property
    def dense(self) -> bool:
        """Whether a row lies in order, so that kernels can read it."""
        expected = row_strides(self.shape)
        return all(
            s == e for s, e, n in zip(self.strides, expected, self.shape[1:], strict=True) if n != 1
        )


class ProgramBuilder:
    """The kernels of one function so far, and where each of its values is."""

    def __init__(self, func: FuncOp, storages: Storages, device: Device):
        self.func = func
        self.storages = storages
        self.device = device
        self.block = Block()
        self.builder = Builder(InsertPoint.at_end(self.block))
        self.slots: dict[SSAValue, Slot] = {}
        self.quantised: dict[SSAValue, SSAValue] = {}
        self.path = ""
        """The model's module that kernels are now for."""

    def insert(self, op: Operation) -> None:
        """Put a kernel at the end, under the module that it is for."""
        if self.path:
            op.attributes["module"] = StringAttr(self.path)
        self.builder.insert(op)

    def buffer(self, shape: Sequence[int], hint: str | None = None) -> Slot:
        """A new buffer of f32; the first dimension counts rows."""
        buffer = exec.Buffer.create(result_types=[MemRefType(f32, list(shape))])
        self.builder.insert(buffer)
        buffer.result.name_hint = hint
        value = buffer.result
        return Slot(value, tuple(shape), 0, row_strides(shape), value)

    def result(self, value: SSAValue) -> Slot:
        """A new buffer for the result of an op."""
        slot = self.buffer(shape_of(value), value.name_hint)
        self.slots[value] = slot
        return slot

    def view(self, source: Slot, shape: Sequence[int], start: int, strides: Sequence[int]) -> Slot:
        """Another look at the buffer of `source`: `start` and `strides` count floats in a row."""
        view = exec.View.create(
            operands=[source.base],
            properties={
                "start": IntegerAttr(start, i64),
                "strides": DenseArrayBase.from_list(i64, list(strides)),
            },
            result_types=[MemRefType(f32, list(shape))],
        )
        self.builder.insert(view)
        return Slot(view.result, tuple(shape), start, tuple(strides), source.base)

    def slot(self, value: SSAValue) -> Slot:
        """Where a value is. Weights and arguments get theirs when first read."""
        if value not in self.slots:
            if isinstance(value.owner, aten.Get):
                self.slots[value] = self._constant(value, value.owner)
            elif value.owner is self.func.body.block:
                kind = exec.IndexAttr(index_of(value))
                out = self.result(value).value
                self.insert(exec.Ids.create(operands=[out], properties={"index": kind}))
            else:
                raise AssertionError("a value without a buffer")
        return self.slots[value]

    def _constant(self, value: SSAValue, get: aten.Get) -> Slot:
        need = (exec.Layout.FLOATS, (get.weight.string_value(),))
        shape = shape_of(value)
        constant = exec.Constant.create(
            properties={"storage": self.storage(need)},
            result_types=[MemRefType(f32, list(shape))],
        )
        self.builder.insert(constant)
        rows = (1, *shape)
        return Slot(constant.result, rows, 0, row_strides(rows), constant.result)

    def dense(self, value: SSAValue) -> SSAValue:
        """The buffer of a value with rows in order, copied when they are not."""
        slot = self.slot(value)
        if slot.dense:
            return slot.value
        self.slots[value] = self.copied(slot)
        return self.slots[value].value

    def packed(self, value: SSAValue) -> SSAValue:
        """The buffer of a value with rows in order and nothing between them."""
        dense = self.dense(value)
        slot = self.slots[value]
        width = math.prod(exec.shape_of(slot.base)[1:])
        if math.prod(slot.shape[1:]) == width:
            return dense
        return self.copied(slot).value

    def copied(self, slot: Slot) -> Slot:
        """A new buffer with what is there, in order."""
        copy = self.buffer(slot.shape)
        self.map([slot.value], copy.value)
        return copy

    def factor(self, x: SSAValue, weight: SymbolRefAttr) -> SSAValue:
        """What a kernel multiplies the rows of a weight with: one row x is quantised, once, when
        the weight is. A GPU widens the weights instead: it waits for their bytes alone."""
        if self.device is Device.CUDA:
            return x
        storage = exec.find_storage(self.func, weight)
        by_columns = storage.layout.data is exec.Layout.COLUMNS
        shape = exec.shape_of(x)
        if not storage.quantised or by_columns or len(shape) != 2 or shape[0] != 1:
            return x
        if x not in self.quantised:
            out = self.buffer((1, nibbles.padded(shape[1])))
            self.kernel(exec.Quantize, [x, out.value], {})
            self.quantised[x] = out.value
        return self.quantised[x]

    def storage(self, need: Need) -> SymbolRefAttr:
        """The storage that choose-layouts made for a need."""
        return SymbolRefAttr(self.storages.name(need))

    def matrix(
        self, op: spz.Linear | spz.LmHead | spz.SparseHead | spz.SparseLinear
    ) -> SymbolRefAttr:
        """The storage of a linear's weight."""
        return self.storage(matrix_need(op, self.storages.by_columns))

    def floats(self, op: Operation, name: str) -> SymbolRefAttr | None:
        """The storage of an op's weight that is f32 in order."""
        found = symbols(op, name)
        return self.storage((exec.Layout.FLOATS, found)) if found else None

    def kernel(
        self,
        kind: type[Operation],
        operands: Sequence[SSAValue],
        properties: dict[str, Attribute | None],
    ) -> None:
        """A kernel of the exec op `kind`; properties that are None are absent."""
        self.insert(
            kind.create(
                operands=list(operands),
                properties={k: v for k, v in properties.items() if v is not None},
            )
        )

    def map(self, ins: Sequence[SSAValue], out: SSAValue, body: Block | None = None) -> None:
        """A map whose body takes an element of each of `ins`; without a body a copy."""
        if body is None:
            body = Block(arg_types=[TensorType(f32, [])])
            body.add_op(exec.MapYield.create(operands=[body.args[0]]))
        self.insert(exec.Map.create(operands=[*ins, out], regions=[Region(body)]))


def index_of(ids: SSAValue) -> exec.Index:
    """Which argument of the function a value is: the tokens, then their positions."""
    return (exec.Index.TOKENS, exec.Index.POSITIONS)[ids.index]  # type: ignore[attr-defined]


Lowering = Callable[[ProgramBuilder, Any], None]
"""Adds the kernels of one op, and says where its results are."""
