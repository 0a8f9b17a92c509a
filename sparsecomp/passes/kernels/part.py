"""Which part of the model a linear belongs to, by what is around it."""

from __future__ import annotations

from xdsl.ir import Operation, Use

from sparsecomp.dialects import aten, exec, spz


def part_of(op: spz.Linear | spz.LmHead | spz.SparseLinear) -> exec.Part:
    """What the bytes of a linear count as: it feeds attention, or is fed by it, or neither."""
    if isinstance(op, spz.LmHead):
        return exec.Part.HEAD
    if any(_in_basis(use) for use in op.result.uses):
        return exec.Part.PREDICTORS
    if any(isinstance(use.operation, spz.Sketch) for use in op.result.uses):
        return exec.Part.PREDICTORS
    stack, seen = [use.operation for use in op.result.uses], set[Operation]()
    while stack:
        user = stack.pop()
        if isinstance(user, spz.CachedAttention):
            return exec.Part.ATTENTION
        if user not in seen and not isinstance(
            user,
            spz.Linear
            | spz.SparseLinear
            | spz.Predict
            | spz.Mlp
            | spz.GatedMlp
            | spz.SparseMlp
            | aten.Add,
        ):
            seen.add(user)
            stack += [use.operation for r in user.results for use in r.uses]
    source = op.x.owner
    while isinstance(source, aten.Structural | aten.Elementwise | spz.Last):
        source = source.operands[0].owner
    return exec.Part.ATTENTION if isinstance(source, spz.CachedAttention) else exec.Part.OTHER


def _in_basis(use: Use) -> bool:
    """Whether a value is read as an input in the basis of an approximation or a correction."""
    op = use.operation
    return isinstance(op, spz.Neurons) and (op.approximate is not None or use.index == 1)
