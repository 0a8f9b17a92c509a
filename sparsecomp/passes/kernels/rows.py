"""The kernels of what stays in ATen: elementwise, or along the last dimension of a row."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import Float64Type, FloatAttr, TensorType, f32
from xdsl.ir import Block, Operation, SSAValue

from sparsecomp.dialects import aten, exec
from sparsecomp.dialects.exec import row_strides
from sparsecomp.passes.base import PassError
from sparsecomp.passes.build import shape_of, tensor_type
from sparsecomp.passes.canonicalize import CASTS

from .program import Lowering, ProgramBuilder

FOLDS: dict[type[Operation], exec.Fold] = {
    aten.Mean: exec.Fold.MEAN,
    aten.Sum: exec.Fold.SUM,
    aten.Amax: exec.Fold.MAX,
    aten.Amin: exec.Fold.MIN,
    aten.Softmax: exec.Fold.SOFTMAX,
}


def elementwise(program: ProgramBuilder, op: aten.Elementwise) -> None:
    """A map of one op."""
    ins = [_aligned(program, o, op.results[0]) for o in op.operands]
    body = Block(arg_types=[TensorType(f32, [])] * len(ins))
    call = _on_scalars(op, body.args)
    body.add_ops([call, exec.MapYield.create(operands=[call.results[0]])])
    program.map(ins, program.result(op.results[0]).value, body)


def fold(program: ProgramBuilder, op: aten.AtenOp) -> None:
    rank = len(shape_of(op.operands[0]))
    dims = op.arg("dim")
    dims = [d % rank for d in (dims if isinstance(dims, list) else [dims])]
    if len(dims) != 1:
        raise PassError(op, "along several dimensions at once has no native kernel")
    x = program.dense(op.operands[0]) if dims == [rank - 1] else _turned(program, op, dims[0])
    fold = exec.FoldAttr(FOLDS[type(op)])
    program.kernel(exec.Reduce, [x, program.result(op.results[0]).value], {"fold": fold})


def _turned(program: ProgramBuilder, op: aten.AtenOp, dim: int) -> SSAValue:
    """The operand with dimension `dim` last, in order."""
    if isinstance(op, aten.Softmax):
        raise PassError(op, "along another dimension than the last has no native kernel")
    source = program.slot(op.operands[0])
    dims = [*(d for d in range(1, len(source.shape)) if d != dim), dim]
    shape = (source.shape[0], *(source.shape[d] for d in dims))
    view = program.view(source, shape, source.start, [source.strides[d - 1] for d in dims])
    return view.value if view.dense else program.copied(view).value


def top_k(program: ProgramBuilder, op: aten.Topk) -> None:
    rank = len(shape_of(op.operands[0]))
    if op.arg("dim") % rank != rank - 1 or not op.arg("largest"):
        raise PassError(op, "other than the largest of the last dimension has no native kernel")
    x = program.dense(op.operands[0])
    *outer, count = shape_of(op.results[0])
    both = program.buffer((*outer, 2, count))
    program.kernel(exec.TopK, [x, both.value], {})
    strides = (*(2 * s for s in row_strides((*outer, count))[:-1]), 1)
    for i, result in enumerate(op.results):
        program.slots[result] = program.view(both, shape_of(result), i * count, strides)


def pick(program: ProgramBuilder, op: aten.Gather | aten.ScatterValue) -> None:
    """Elements of the last dimension, by an index that depends on the token."""
    if op.arg("dim") % len(shape_of(op.results[0])) != len(shape_of(op.results[0])) - 1:
        raise PassError(op, "along another dimension than the last has no native kernel")
    x, index = (program.dense(o) for o in op.operands)
    operands = [x, index, program.result(op.results[0]).value]
    if isinstance(op, aten.Gather):
        program.kernel(exec.Gather, operands, {})
    else:
        value = FloatAttr(float(op.arg("value")), Float64Type())
        program.kernel(exec.Scatter, operands, {"value": value})


def _aligned(program: ProgramBuilder, value: SSAValue, result: SSAValue) -> SSAValue:
    """An operand of a map with as many dimensions as the result: size 1 where it repeats."""
    slot = program.slot(value)
    missing = len(shape_of(result)) - len(slot.shape)
    if missing:
        shape = (slot.shape[0], *(1,) * missing, *slot.shape[1:])
        return program.view(slot, shape, slot.start, (0,) * missing + slot.strides).value
    return slot.value


def _on_scalars(op: aten.AtenOp, args: Sequence[SSAValue]) -> aten.AtenOp:
    """An elementwise op on the arguments of a map's body."""
    scalar = TensorType(f32, [])
    if isinstance(op, CASTS):  # the new type, however it was said
        dtype = tensor_type(op.results[0]).element_type
        return aten.ToDtype.call({"self": args[0], "dtype": dtype}, [scalar])
    known = dict(zip(op.operands, args, strict=True))
    arguments = op.arguments()
    for name, value in arguments.items():
        if isinstance(value, SSAValue):
            arguments[name] = known[value]
    return type(op).call(arguments, [scalar])


LOWERINGS: dict[type[Operation], Lowering] = {
    **dict.fromkeys(FOLDS, fold),
    aten.Topk: top_k,
    aten.Gather: pick,
    aten.ScatterValue: pick,
}
