"""Ops that only move values: views, and copies where no view would do."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Operation

from sparsecomp.dialects import aten, exec, spz
from sparsecomp.dialects.exec import row_strides
from sparsecomp.passes.build import shape_of

from .program import Lowering, ProgramBuilder


def move(program: ProgramBuilder, op: aten.AtenOp) -> None:
    source = program.slot(op.operands[0])
    shape = shape_of(op.results[0])
    strides: Sequence[int]
    if isinstance(op, aten.Reshape):
        if shape[1:] == () or not source.dense:
            program.dense(op.operands[0])
            source = program.slots[op.operands[0]]
        start, strides = source.start, row_strides(shape)
    elif isinstance(op, aten.Permute):
        dims = [d % len(source.shape) for d in op.arg("dims")]
        start, strides = source.start, [source.strides[d - 1] for d in dims[1:]]
    elif isinstance(op, aten.Slice):
        dim = op.arg("dim") % len(source.shape)
        first, step = op.arg("start") or 0, op.arg("step")
        first += source.shape[dim] if first < 0 else 0
        start = source.start + first * source.strides[dim - 1]
        strides = [s * (step if d == dim - 1 else 1) for d, s in enumerate(source.strides)]
    else:
        padded = (1,) * (len(shape) - len(source.shape)) + source.shape[1:]
        old = (0,) * (len(shape) - len(source.shape)) + source.strides
        start = source.start
        strides = [
            0 if have != want else stride
            for have, want, stride in zip(padded, shape[1:], old, strict=True)
        ]
    program.slots[op.results[0]] = program.view(source, shape, start, strides)


def cat(program: ProgramBuilder, op: aten.Cat) -> None:
    out = program.result(op.results[0])
    dim = op.arg("dim") % len(out.shape)
    start = 0
    for operand in op.operands:
        source = program.slot(operand)
        part = program.view(out, source.shape, start, out.strides)
        program.map([source.value], part.value)
        start += source.shape[dim] * out.strides[dim - 1]


def last(program: ProgramBuilder, op: spz.Last) -> None:
    x = program.dense(op.x)
    program.kernel(exec.Last, [x, program.result(op.result).value], {})


LOWERINGS: dict[type[Operation], Lowering] = {
    aten.Reshape: move,
    aten.Permute: move,
    aten.Slice: move,
    aten.Expand: move,
    aten.Cat: cat,
    spz.Last: last,
}
