"""sparsify-head: a head that allocate-sparsity wants sketched reads the candidates' rows alone.

    axes = linear(x)           the input in the axes of the sketch
    scores = sketch(axes)      of the whole vocabulary, from few bits a weight
    chosen = select(scores)    the best of them, and all that are probable
    logits = sparse_head(x)    exact where chosen, the scores plus an offset elsewhere

A cascade begins with a sketch of fewer bits and chooses twice, the first time for

    scores = refine(axes)      better ones where chosen, the scores plus an offset elsewhere

What the model does with logits afterwards (a soft cap, a scale) stays behind them.
"""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.builder import Builder
from xdsl.dialects.builtin import (
    FloatAttr,
    IntegerAttr,
    IntegerType,
    ModuleOp,
    SymbolRefAttr,
    TensorType,
    f32,
    f64,
    i1,
    i64,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.rewriter import InsertPoint

from sparsecomp import sketches
from sparsecomp.dialects import spz
from sparsecomp.sparsity import Cascade, Sketch

from .base import Form, Pass, PassContext, PassError, functions
from .blocks import HeadBlock, blocks
from .build import from_module, shape_of
from .choose_layouts import declarations
from .insert_predictors import declare, sparsity_of
from .quantize_weights import BITS

AXES_BITS = 8
"""Of a quantised model: in 4 bits the axes would mix what the sketch takes apart."""


def sketch_names(module: str) -> tuple[str, str, str, str]:
    """The weights of a head's sketch: axes (in + 1, in) and their bias (in + 1,), of which the last
    row gives what all rows have in common; rows (V, in) and their bias (V,)."""
    sketch = f"{module}.sketch"
    return f"{sketch}.axes", f"{sketch}.axes_bias", f"{sketch}.rows", f"{sketch}.bias"


class SparsifyHead(Pass):
    name = "sparsify-head"
    help = "score the vocabulary by a sketch, and read the head of the best alone"
    requires = (Form.ROWS,)
    ensures = (Form.ROWS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        for func in functions(module):
            for block in blocks(func):
                choice = sparsity_of(block.op)
                if not isinstance(block, HeadBlock) or choice is None:
                    continue
                if not isinstance(choice, Sketch):
                    raise PassError(block.op, "has no neurons or heads; kind: sketch would work")
                _sketch(module, block, choice, ctx)


def _sketch(module: ModuleOp, block: HeadBlock, choice: Sketch, ctx: PassContext) -> None:
    op, units = block.op, block.units
    rows, inputs = shape_of(op.x)
    names = sketch_names(block.module)
    shapes = ([inputs + 1, inputs], [inputs + 1], [units, inputs], [units])
    for name, shape in zip(names, shapes, strict=True):
        declare(module, name, TensorType(f32, shape))
    axes, axes_bias, sketched, bias = map(SymbolRefAttr, names)
    if ctx.dtype in BITS:
        declarations(module)[names[0]].attributes["stored"] = IntegerType(AXES_BITS)

    builder = Builder(InsertPoint.before(op))

    def insert(
        kind: type[spz.SpzOp],
        operands: list[SSAValue],
        width: int,
        element: Attribute,
        properties: Mapping[str, Attribute | None],
    ) -> SSAValue:
        made = kind.create(
            operands=operands,
            properties={key: value for key, value in properties.items() if value is not None},
            attributes=from_module(block.module),
            result_types=[TensorType(element, [rows, width])],
        )
        return builder.insert(made).results[0]

    def select(scores: SSAValue, count: int, probability: float, density: float) -> SSAValue:
        properties = {
            "count": IntegerAttr(min(count, units), i64),
            "group": IntegerAttr(units, i64),
            "probability": None if probability == 1 else FloatAttr(probability, f64),
            "density": FloatAttr(density, f64),
            "active": FloatAttr(density, f64),
        }
        return insert(spz.Select, [scores], units, i1, properties)

    turned = insert(spz.Linear, [op.x], inputs + 1, f32, {"weight": axes, "bias": axes_bias})
    properties = {"rows": sketched, "bias": bias, "bits": IntegerAttr(choice.bits, i64)}
    scores = insert(spz.Sketch, [turned], units, f32, properties)
    if isinstance(choice, Cascade) and sketches.refined_groups(inputs):
        worth = select(scores, choice.first_count, choice.first_probability, choice.first_density)
        properties = {
            "rows": sketched,
            "offset": FloatAttr(choice.first_offset, f64),
            "density": FloatAttr(choice.first_density, f64),
        }
        scores = insert(spz.Refine, [scores, worth, turned], units, f32, properties)
    chosen = select(scores, choice.count, choice.probability, choice.density)
    logits = insert(
        spz.SparseHead,
        [op.x, chosen, scores],
        units,
        f32,
        {
            "weight": op.weight,
            "bias": op.bias,
            "offset": FloatAttr(choice.offset, f64),
            "density": FloatAttr(choice.density, f64),
        },
    )
    op.result.replace_all_uses_with(logits)
    op.detach()
    op.erase()
