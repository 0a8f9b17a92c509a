"""fuse-sparse-mlp: an MLP that keeps a selection of its neurons reads the selected alone.

What the selection was computed from is known and not computed again: all of a neuron's value, or
its gate. Coarse values are not the neurons' own: what counts by them is added by them. Many rows
stay masked: each of them selects its own neurons.
"""

from __future__ import annotations

from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, UnitAttr
from xdsl.ir import Attribute
from xdsl.pattern_rewriter import (
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
    op_type_rewrite_pattern,
)

from sparsecomp.dialects import spz

from .base import Form, Pass, PassContext
from .build import shape_of


def computes(neurons: spz.Neurons, op: spz.Mlp | spz.GatedMlp) -> bool:
    """Whether these are the op's own neurons, whole or their gates alone."""
    names = ["gate", "gate_bias"] if neurons.up is None else ["up", "up_bias", "gate", "gate_bias"]
    if neurons.coarse is not None:
        return False
    same = all(neurons.properties.get(n) == op.properties.get(n) for n in [*names, "act"])
    return same and neurons.x is op.x


class SparseMlpPattern(RewritePattern):
    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: spz.Mlp | spz.GatedMlp, rewriter: PatternRewriter, /) -> None:
        if op.selection is None or shape_of(op.x)[0] == DYNAMIC_INDEX:
            return
        select = op.selection.owner
        if not isinstance(select, spz.Select):
            return
        properties: dict[str, Attribute] = dict(op.properties) | {
            "density": select.density,
            "active": select.active,
        }
        neurons, values = select.scores.owner, None
        if isinstance(neurons, spz.Neurons) and computes(neurons, op):
            values = neurons.result
            if neurons.up is None:
                properties["gate_known"] = UnitAttr()
        rest, coarse = op.kept[1:] or (None, None)
        if rest is not None:
            if not isinstance(rest.owner, spz.Select):
                return
            properties["rest_density"] = rest.owner.density
        rewriter.replace(
            op,
            spz.SparseMlp.build(
                operands=[op.x, op.selection, values, rest, coarse],
                properties=properties,
                attributes=dict(op.attributes),
                result_types=[op.result.type],
            ),
        )


class FuseSparseMlp(Pass):
    name = "fuse-sparse-mlp"
    help = "read only the selected neurons of an MLP in the decode step"
    requires = (Form.ROWS,)
    ensures = (Form.ROWS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        PatternRewriteWalker(SparseMlpPattern()).rewrite_module(module)
