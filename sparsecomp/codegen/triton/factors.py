"""What products are of: a row of floats, or the norm of one in the same launch."""

from __future__ import annotations

from typing import NamedTuple

from xdsl.ir import SSAValue

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import NormKind, shape_of

from .call import NULL, Argument, floats, weights
from .policy import next_power


class Norm(NamedTuple):
    """How kernels norm a row of `width` floats, which they take as a block."""

    width: int
    block: int
    eps: float
    layer: bool
    """Whether the mean is subtracted first."""
    weight: bool
    bias: bool


def norm_of(op: exec.Norm) -> Norm:
    """The norm of a row, or of each head of it."""
    width = shape_of(op.x)[-1]
    return Norm(
        width,
        next_power(width),
        op.eps.value.data,
        op.kind.data is NormKind.LAYER,
        op.weight is not None,
        op.bias is not None,
    )


def _norm(value: SSAValue) -> exec.Norm | None:
    """What a value of a launch is the norm of something by."""
    buffer = value.owner
    if not isinstance(buffer, exec.Buffer) or not isinstance(buffer.parent_op(), exec.Launch):
        return None
    users = (use.operation for use in value.uses)
    return next((op for op in users if isinstance(op, exec.Norm) and op.out is value), None)


def normed(value: SSAValue) -> Norm | None:
    """How a kernel norms what it reads in place of a value; None: it reads the value."""
    norm = _norm(value)
    return None if norm is None else norm_of(norm)


def row_and_norm(value: SSAValue) -> list[Argument]:
    """A row, and the weight and the bias of its norm."""
    norm = _norm(value)
    if norm is None:
        return [floats(value), NULL, NULL]
    return [floats(norm.x), weights(norm, "weight"), weights(norm, "bias")]
