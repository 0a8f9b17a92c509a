"""What an attention's scores say: `cap(scale * q k^T) + mask`, read from the softmax back.

Each step from the softmax to the product of queries and keys must be one that attention has a
place for: a mask, a scale, a soft cap, a sink. The shares must go into nothing but sums of values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from xdsl.dialects.builtin import DYNAMIC_INDEX
from xdsl.ir import Operation, SSAValue

from sparsecomp.dialects import aten

from .base import PassContext
from .build import shape_of
from .kinds import Kind
from .masks import FORBIDDEN, Term


@dataclass
class Scores:
    """The parts of `cap(scale * q k^T) + mask`, collected from the softmax back to the product."""

    terms: list[Term] = field(default_factory=list)
    scale: float = 1.0
    softcap: float | None = None
    sinks: SSAValue | None = None
    q: SSAValue | None = None
    k_transposed: SSAValue | None = None


class ScoresReader:
    def __init__(self, kinds: dict[SSAValue, Kind], ctx: PassContext):
        self.kinds = kinds
        self.ctx = ctx

    def read(self, value: SSAValue) -> Scores | None:
        """None when the value is not an attention's scores."""
        scores = Scores()
        while scores.q is None:
            op = value.owner
            if not isinstance(op, Operation):
                return None
            following = self._step(op, scores)
            if following is None:
                return None
            value = following
        return scores

    def _step(self, op: Operation, scores: Scores) -> SSAValue | None:
        following = self._inside_cap(op, scores)
        if following is None and scores.softcap is None:
            following = self._outside_cap(op, scores)
        return following

    def _outside_cap(self, op: Operation, scores: Scores) -> SSAValue | None:
        """Masks and what the softmax does not see: none of it may stand inside a soft cap."""
        match op:
            case aten.Add():
                value, other = self._token_first(op.operands[0], op.operands[1])
                if self.kinds[other] is Kind.TOKEN or op.arg("alpha") != 1:
                    return None
                scores.terms.append(Term(other, factor=scores.scale))
                return value
            case aten.WhereScalarOther() | aten.Where() if self._forbids(op):
                scores.terms.append(Term(op.operands[0], forbids=False))
                return op.operands[1]
            case aten.MaskedFillScalar() if op.arg("value") < -1e4:
                scores.terms.append(Term(op.operands[1], forbids=True))
                return op.operands[0]
            case aten.Maximum() if self._is_floor(op.operands[1]):
                return op.operands[0]
            case aten.Sub() if shape_of(op.operands[1])[-1] == 1 and scores.sinks is None:
                return op.operands[0]  # the softmax is blind to a constant per row
            case aten.Cat() if scores.sinks is None and not scores.terms:
                first, second = (*op.operands, None)[:2]
                if second is None or shape_of(second)[-1] != 1:
                    return None
                scores.sinks = second
                return first
            case aten.Baddbmm():
                bias, scores.q, scores.k_transposed = op.operands
                outer = scores.scale
                scores.scale *= float(op.arg("alpha"))
                if op.arg("beta"):
                    scores.terms.append(Term(bias, factor=outer * float(op.arg("beta"))))
                return scores.q
            case _:
                return None

    def _inside_cap(self, op: Operation, scores: Scores) -> SSAValue | None:
        match op:
            case aten.MulScalar() if scores.scale == 1 and (cap := self._softcap(op)) is not None:
                scores.softcap = cap[0]
                return cap[1]
            case aten.Tanh() if scores.scale == 1 and scores.softcap is None:
                scores.softcap = 1.0
                return op.operands[0]
            case aten.MulScalar():
                scores.scale *= float(op.arg("other"))
                return op.operands[0]
            case aten.Mul() | aten.Div():
                value, other = self._token_first(op.operands[0], op.operands[1])
                number = self._number(other)
                if number is None or value is not op.operands[0]:
                    return None
                scores.scale *= number if isinstance(op, aten.Mul) else 1.0 / number
                return value
            case aten.ToDtype() | aten.ToLayout():
                return op.operands[0]
            case aten.Reshape() if _is_square(op.operands[0]) and _is_square(op.results[0]):
                return op.operands[0]
            case aten.Matmul() | aten.Bmm():
                scores.q, scores.k_transposed = op.operands
                return op.operands[0]
            case _:
                return None

    def _token_first(self, a: SSAValue, b: SSAValue) -> tuple[SSAValue, SSAValue]:
        return (a, b) if self.kinds[a] is Kind.TOKEN else (b, a)

    def _forbids(self, op: aten.AtenOp) -> bool:
        if self.kinds[op.operands[0]] is Kind.TOKEN:
            return False
        if isinstance(op, aten.WhereScalarOther):
            return float(op.arg("other")) < -1e4
        number = self._number(op.operands[2])
        return number is not None and number < -1e4

    def _is_floor(self, value: SSAValue) -> bool:
        """A smallest value for scores that the softmax cannot tell from any smaller one."""
        number = self._number(value)
        return number is not None and number <= FORBIDDEN

    def _number(self, value: SSAValue) -> float | None:
        """A weight-only value of one element, as a number."""
        if self.kinds[value] is not Kind.WEIGHT or math.prod(shape_of(value)) != 1:
            return None
        (tensor,) = self.ctx.evaluate([value], {}, length=2, weights=self.ctx.weights)
        return float(tensor.flatten()[0])

    def _softcap(self, op: aten.MulScalar) -> tuple[float, SSAValue] | None:
        """(c, x) of `c * tanh(x / c)`."""
        tanh = op.operands[0].owner
        if not isinstance(tanh, aten.Tanh):
            return None
        inner = tanh.operands[0].owner
        cap = float(op.arg("other"))
        if isinstance(inner, aten.MulScalar) and math.isclose(
            float(inner.arg("other")) * cap, 1.0, rel_tol=1e-6
        ):
            return cap, inner.operands[0]
        return None


def _is_square(value: SSAValue) -> bool:
    return shape_of(value)[-2:] == (DYNAMIC_INDEX, DYNAMIC_INDEX)


def weighted_sums(softmax: Operation, has_sink: bool) -> list[aten.AtenOp]:
    """The products of the shares with values; none when anything else reads the shares.

    The share of a sink, the last one, must be cut off before.
    """
    found: list[aten.AtenOp] = []
    stack = [(softmax.results[0], has_sink)]
    while stack:
        shares, with_sink = stack.pop()
        for use in shares.uses:
            match op := use.operation:
                case aten.Matmul() | aten.Bmm() if use.index == 0 and not with_sink:
                    found.append(op)
                case aten.Reshape() if _is_square(op.results[0]):
                    stack.append((op.results[0], with_sink))
                case aten.ToDtype() | aten.ToLayout():
                    stack.append((op.results[0], with_sink))
                case aten.Slice() if with_sink and _cuts_last(op):
                    stack.append((op.results[0], False))
                case _:
                    return []
    return found


def _cuts_last(op: aten.Slice) -> bool:
    rank = len(shape_of(op.operands[0]))
    return op.arg("dim") % rank == rank - 1 and not op.arg("start") and op.arg("end") == -1
