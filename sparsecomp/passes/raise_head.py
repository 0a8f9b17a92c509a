"""raise-head: the last linear before the result scores the vocabulary: spz.lm_head."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation
from xdsl.pattern_rewriter import PatternRewriter, PatternRewriteWalker, RewritePattern

from sparsecomp.dialects import aten, spz

from .base import Form, Pass, PassContext, function
from .build import shape_of
from .raise_linear import replace_with


def _head(func: FuncOp) -> spz.Linear | None:
    """The linear that the result comes from, elementwise steps (a soft cap) aside."""
    returned = func.body.block.last_op
    assert isinstance(returned, ReturnOp)
    value = returned.operands[0]
    while True:
        op = value.owner
        if isinstance(op, spz.Linear):
            return op
        if not isinstance(op, aten.Elementwise):
            return None
        same = [o for o in op.operands if shape_of(o) == shape_of(value)]
        if len(same) != 1:
            return None
        value = same[0]


class HeadPattern(RewritePattern):
    def __init__(self, head: Operation):
        self.head = head

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if op is self.head and isinstance(op, spz.Linear):
            replace_with(rewriter, op, spz.LmHead, [op.x], {"weight": op.weight, "bias": op.bias})


class RaiseHead(Pass):
    name = "raise-head"
    help = "the last linear before the result becomes spz.lm_head"
    requires = (Form.ROWS, Form.FULL_SEQUENCE)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        head = _head(function(module, "forward"))
        if head is not None:
            PatternRewriteWalker(HeadPattern(head)).rewrite_module(module)
