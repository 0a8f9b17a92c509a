"""raise-norm: norms spelled out in arithmetic become spz.rms_norm and spz.layer_norm."""

from __future__ import annotations

from xdsl.dialects.builtin import FloatAttr, ModuleOp, f64
from xdsl.ir import Operation, SSAValue
from xdsl.pattern_rewriter import (
    GreedyRewritePatternApplier,
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
)
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten, spz

from .base import Form, Pass, PassContext
from .build import shape_of
from .raise_linear import replace_with, symbol_of


class RmsPattern(RewritePattern):
    """`x * (mean(x^2) + eps)^-1/2`, also as a division by the root."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        match op:
            case aten.Mul():
                pairs = [tuple(op.operands), tuple(reversed(op.operands))]
                inverse = True
            case aten.Div():
                pairs = [tuple(op.operands)]
                inverse = False
            case _:
                return
        for x, root in pairs:
            shifted = _inverse_root(root) if inverse else _root(root)
            eps = _mean_square_plus(shifted, x)
            if eps is not None:
                replace_with(rewriter, op, spz.RmsNorm, [x], {"eps": FloatAttr(eps, f64)})
                return


def _inverse_root(value: SSAValue) -> SSAValue | None:
    """v of `v^-1/2`."""
    match op := value.owner:
        case aten.Rsqrt():
            return op.operands[0]
        case aten.PowScalar() if op.arg("exponent") == -0.5:
            return op.operands[0]
        case aten.Reciprocal():
            return _root(op.operands[0])
    return None


def _root(value: SSAValue) -> SSAValue | None:
    """v of `v^1/2`."""
    match op := value.owner:
        case aten.Sqrt():
            return op.operands[0]
        case aten.PowScalar() if op.arg("exponent") == 0.5:
            return op.operands[0]
    return None


def _mean_square_plus(value: SSAValue | None, x: SSAValue) -> float | None:
    """eps of `mean(x^2) + eps`."""
    if value is None or not isinstance(add := value.owner, aten.AddScalar):
        return None
    mean = add.operands[0].owner
    if not isinstance(mean, aten.Mean) or not _over_last(mean):
        return None
    match square := mean.operands[0].owner:
        case aten.PowScalar() if square.arg("exponent") == 2 and square.operands[0] is x:
            return float(add.arg("other"))
        case aten.Mul() if square.operands[0] is x and square.operands[1] is x:
            return float(add.arg("other"))
    return None


def _over_last(op: aten.AtenOp) -> bool:
    rank = len(shape_of(op.operands[0]))
    return bool(op.arg("keepdim")) and [d % rank for d in op.arg("dim") or []] == [rank - 1]


class CenterPattern(RewritePattern):
    """`rms_norm(x - mean(x))` is a layer norm."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, spz.RmsNorm) or not isinstance(sub := op.x.owner, aten.Sub):
            return
        x, mean = sub.operands[0], sub.operands[1].owner
        if isinstance(mean, aten.Mean) and mean.operands[0] is x and _over_last(mean):
            replace_with(rewriter, op, spz.LayerNorm, [x], {"eps": op.eps, "weight": op.weight})


class ScalePattern(RewritePattern):
    """A product of a norm with a weight of its last dimension belongs to the norm."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, aten.Mul):
            return
        for x, scale in (tuple(op.operands), tuple(reversed(op.operands))):
            norm, weight = x.owner, symbol_of(scale)
            if (
                isinstance(norm, spz.RmsNorm | spz.LayerNorm)
                and norm.weight is None
                and weight is not None
                and shape_of(scale) == shape_of(x)[-1:]
                and len(list(x.uses)) == 1
                and getattr(norm, "bias", None) is None
            ):
                properties = dict(norm.properties)
                properties["weight"] = weight
                replace_with(rewriter, op, type(norm), [norm.x], properties)
                return


class ShiftPattern(RewritePattern):
    """A sum of a layer norm with a weight of its last dimension belongs to the norm."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, aten.Add) or op.arg("alpha") != 1:
            return
        for x, shift in (tuple(op.operands), tuple(reversed(op.operands))):
            norm, bias = x.owner, symbol_of(shift)
            if (
                isinstance(norm, spz.LayerNorm)
                and norm.bias is None
                and bias is not None
                and shape_of(shift) == shape_of(x)[-1:]
                and len(list(x.uses)) == 1
            ):
                replace_with(
                    rewriter, op, spz.LayerNorm, [norm.x], dict(norm.properties) | {"bias": bias}
                )
                return


class RaiseNorm(Pass):
    name = "raise-norm"
    help = "norms spelled out in arithmetic become spz.rms_norm and spz.layer_norm"
    requires = (Form.ROWS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        patterns = [RmsPattern(), CenterPattern(), ScalePattern(), ShiftPattern()]
        PatternRewriteWalker(GreedyRewritePatternApplier(patterns)).rewrite_module(module)
        region_dce(module.body)
