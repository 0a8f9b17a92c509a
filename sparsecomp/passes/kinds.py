"""What a value depends on decides what happens to it: weights alone, positions too, or tokens."""

from __future__ import annotations

from enum import IntEnum

from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from sparsecomp.dialects import aten, spz
from sparsecomp.dialects.schema import Dim


class Kind(IntEnum):
    """Ordered: an op's result is of the highest kind among what it reads."""

    WEIGHT = 0
    """Computed from weights and constants: the same for every token and position."""
    POSITION = 1
    """Computed from positions too: the same for every text."""
    TOKEN = 2
    """The program."""


def dynamic_dims(value: SSAValue) -> list[int]:
    """The dimensions of a value that count positions."""
    assert isinstance(value.type, TensorType)
    return [i for i, n in enumerate(value.type.get_shape()) if n == DYNAMIC_INDEX]


def _depends_on_length(op: aten.AtenOp) -> bool:
    def mentions(value: object) -> bool:
        return isinstance(value, Dim) or (isinstance(value, list) and any(map(mentions, value)))

    return any(mentions(op.arg(a.name)) for a in op.ARGS if not a.is_tensor)


def classify(function: FuncOp) -> dict[SSAValue, Kind]:
    """The kind of every value of a function (tokens enter through its first argument)."""
    kinds: dict[SSAValue, Kind] = {}
    arguments = function.body.block.args
    for index, argument in enumerate(arguments):
        kinds[argument] = Kind.POSITION if index == 1 else Kind.TOKEN
    for op in function.body.block.ops:
        kind = op_kind(op, kinds)
        for result in op.results:
            kinds[result] = kind
    return kinds


def op_kind(op: Operation, kinds: dict[SSAValue, Kind]) -> Kind:
    if isinstance(op, aten.Get):
        # A derived weight with a row per position is still a table, the same for every text.
        return Kind.WEIGHT
    if isinstance(op, aten.Creation):
        # Only shapes are read, and of these only the sequence length can vary.
        dynamic = any(dynamic_dims(r) for r in op.results) or _depends_on_length(op)
        return Kind.POSITION if dynamic else Kind.WEIGHT
    if isinstance(op, spz.AttentionOp):
        return Kind.TOKEN
    kind = max((kinds[o] for o in op.operands), default=Kind.WEIGHT)
    if kind is Kind.WEIGHT and any(dynamic_dims(r) for r in op.results):
        return Kind.POSITION
    return kind


def enters_program(value: SSAValue, kinds: dict[SSAValue, Kind]) -> bool:
    """Whether an op that depends on tokens reads the value."""
    return any(kinds[r] is Kind.TOKEN for use in value.uses for r in use.operation.results)
