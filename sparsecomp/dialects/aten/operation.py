"""What an ATen call is, by what it does with its operands' elements."""

from __future__ import annotations

from collections.abc import Callable

from sparsecomp.dialects import schema as _schema
from sparsecomp.dialects.schema import C, CallOp


class AtenOp(CallOp):
    """Base of all ATen calls."""


class Elementwise(AtenOp):
    """An output element depends on the operands' elements at its own (broadcast) index alone."""


class Structural(AtenOp):
    """Moves elements and computes nothing: an index map of its operands."""


class Creation(AtenOp):
    """Reads no operand's elements, at most a shape."""


def schema(line: str) -> Callable[[type[C]], type[C]]:
    """Defines an op by this line of torch's schema."""
    return _schema.schema("aten", line)
