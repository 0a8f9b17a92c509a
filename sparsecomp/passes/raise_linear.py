"""raise-linear: products with a weight become spz.linear, look-ups spz.embed, norms spz norms.

Weights become symbols of the op. A matrix that the model stores input-first is transposed once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from xdsl.dialects.builtin import FloatAttr, ModuleOp, SymbolRefAttr, f64
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.pattern_rewriter import (
    GreedyRewritePatternApplier,
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
)
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten, spz

from .base import Form, Pass, PassContext, module_path
from .build import from_module, permute, shape_of
from .outline import Outliner


def symbol_of(value: SSAValue | None) -> SymbolRefAttr | None:
    """The weight that a value is, or None."""
    op = value.owner if value is not None else None
    return SymbolRefAttr(op.weight.string_value()) if isinstance(op, aten.Get) else None


def replace_with(
    rewriter: PatternRewriter,
    op: Operation,
    new: type[Operation],
    operands: list[SSAValue],
    properties: Mapping[str, Attribute | None],
) -> None:
    """Replace an op by an spz op of the same result type and module."""
    built = new.create(
        operands=operands,
        properties={k: v for k, v in properties.items() if v is not None},
        attributes=from_module(module_path(op)),
        result_types=[op.results[0].type],
    )
    rewriter.replace(op, built)


class LinearPattern(RewritePattern):
    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, aten.Linear):
            return
        arguments = op.arguments()
        weight, bias = symbol_of(arguments["weight"]), symbol_of(arguments["bias"])
        if weight is not None and (bias is None) == (arguments["bias"] is None):
            replace_with(
                rewriter, op, spz.Linear, [arguments["input"]], {"weight": weight, "bias": bias}
            )


class ProductPattern(RewritePattern):
    """`x @ w (+ b)` with w (in, out)."""

    def __init__(self, outliner: Outliner):
        self.outliner = outliner

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        bias = None
        match op:
            case aten.Matmul() | aten.Mm():
                x, weight = op.operands
            case aten.Addmm() if op.arg("alpha") == 1 and op.arg("beta") == 1:
                b, x, weight = op.operands
                bias = symbol_of(b)
                if bias is None:
                    return
            case _:
                return
        get = weight.owner
        if not isinstance(get, aten.Get) or len(shape_of(weight)) != 2:
            return
        block = Block()
        source = aten.Get(get.weight.string_value(), weight.type)
        block.add_op(source)
        transposed = permute(source.result, (1, 0))
        block.add_op(transposed)
        name, _ = self.outliner.add(
            f"{get.weight.string_value()}.transposed", block, transposed.results[0]
        )
        replace_with(rewriter, op, spz.Linear, [x], {"weight": SymbolRefAttr(name), "bias": bias})


class EmbeddingPattern(RewritePattern):
    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if isinstance(op, aten.Embedding) and (table := symbol_of(op.operands[0])) is not None:
            replace_with(rewriter, op, spz.Embed, [op.operands[1]], {"table": table})


class NormCallPattern(RewritePattern):
    """layer_norm and rms_norm as torch calls, over the last dimension."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter) -> None:
        if not isinstance(op, aten.LayerNorm | aten.RmsNorm):
            return
        arguments = op.arguments()
        x, weight, bias = arguments["input"], arguments["weight"], arguments.get("bias")
        if len(arguments["normalized_shape"]) != 1:
            return
        symbols = {"weight": symbol_of(weight), "bias": symbol_of(bias)}
        if any(
            (symbols[k] is None) != (v is None) for k, v in (("weight", weight), ("bias", bias))
        ):
            return
        eps = arguments["eps"]
        if eps is None:
            eps = torch.finfo(torch.float32).eps
        new = spz.LayerNorm if isinstance(op, aten.LayerNorm) else spz.RmsNorm
        replace_with(rewriter, op, new, [x], {**symbols, "eps": FloatAttr(eps, f64)})


class RaiseLinear(Pass):
    name = "raise-linear"
    help = "products with a weight become spz.linear, look-ups spz.embed, norm calls spz norms"
    requires = (Form.ROWS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        patterns = GreedyRewritePatternApplier(
            [
                LinearPattern(),
                ProductPattern(Outliner(module)),
                EmbeddingPattern(),
                NormCallPattern(),
            ]
        )
        PatternRewriteWalker(patterns).rewrite_module(module)
        region_dce(module.body)
