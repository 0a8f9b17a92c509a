"""Short hands for building aten ops inside passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import DYNAMIC_INDEX, ArrayAttr, StringAttr, TensorType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import Rewriter

from sparsecomp.dialects import aten
from sparsecomp.dialects.schema import CallOp, Dim, DimAttr


def tensor_type(value: SSAValue) -> TensorType[Attribute]:
    assert isinstance(value.type, TensorType)
    return value.type


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """The shape of a tensor value; `DYNAMIC_INDEX` where it counts positions."""
    return tensor_type(value).get_shape()


def with_shape(value: SSAValue, shape: Sequence[int]) -> TensorType[Attribute]:
    return TensorType(tensor_type(value).element_type, list(shape))


def sizes(shape: Sequence[int]) -> list[int | Dim]:
    """A shape as the size argument of a call."""
    return [Dim(1) if n == DYNAMIC_INDEX else n for n in shape]


def reshape(value: SSAValue, shape: Sequence[int], module: str = "") -> CallOp:
    return aten.Reshape.call(
        {"self": value, "shape": sizes(shape)}, [with_shape(value, shape)], module
    )


def permute(value: SSAValue, order: Sequence[int], module: str = "") -> CallOp:
    shape = shape_of(value)
    return aten.Permute.call(
        {"self": value, "dims": list(order)},
        [with_shape(value, [shape[d] for d in order])],
        module,
    )


def slice_dim(value: SSAValue, dim: int, start: int, end: int, module: str = "") -> CallOp:
    shape = list(shape_of(value))
    dim %= len(shape)
    shape[dim] = end - start
    return aten.Slice.call(
        {"self": value, "dim": dim, "start": start, "end": end}, [with_shape(value, shape)], module
    )


def from_module(path: str) -> dict[str, Attribute]:
    """The attribute that says which of the model's modules an op comes from."""
    return {"module": StringAttr(path)} if path else {}


def clone_with_rows(op: Operation, operands: Mapping[SSAValue, SSAValue], rows: int) -> Operation:
    """A copy of an op for a fixed number of rows: `?` becomes `rows`, and `s` in arguments too."""
    new = op.clone(dict(operands))
    for result in tuple(new.results):
        if isinstance(result.type, TensorType):
            fixed = [rows if n == DYNAMIC_INDEX else n for n in result.type.get_shape()]
            type = TensorType(result.type.element_type, fixed)
            Rewriter.replace_value_with_new_type(result, type)
    if isinstance(new, CallOp) and rows != DYNAMIC_INDEX:
        for name, attribute in new.properties.items():
            new.properties[name] = _with_rows(attribute, rows)
    return new


def _with_rows(attribute: Attribute, rows: int) -> Attribute:
    match attribute:
        case DimAttr():
            value = attribute.value
            return DimAttr.of(value.at(rows)) if isinstance(value, Dim) else attribute
        case ArrayAttr():
            return ArrayAttr([_with_rows(a, rows) for a in attribute])
        case _:
            return attribute
