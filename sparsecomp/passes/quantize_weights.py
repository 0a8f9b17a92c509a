"""quantize-weights: which matrices are kept in 8 or 4 bits.

All that linears, embeddings, MLPs and the head read, but what a recipe wants wider, and rows so
short that their padding would take more than it saves. The declaration of a weight then says what
it is `stored` as. Norms, biases and tables stay f32.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from xdsl.dialects.builtin import IntegerType, ModuleOp

from sparsecomp import nibbles
from sparsecomp.dialects import exec, spz
from sparsecomp.errors import SparsecompError
from sparsecomp.options import Dtype

from .base import Form, Pass, PassContext, covers, functions
from .choose_layouts import Need, declarations, needs, read_by_columns

BITS = {Dtype.INT8: 8, Dtype.INT4: 4}
WIDE_ITEM = 2
"""Bytes of an element that is not quantised: bf16."""


class QuantizeWeights(Pass):
    name = "quantize-weights"
    help = "keep matrices in 8 or 4 bits, where that was asked for"
    requires = (Form.ROWS, Form.DECODE)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        declared = declarations(module)
        for name in ctx.wider:
            _check(name, declared)
        if ctx.dtype not in BITS:
            return
        bits = BITS[ctx.dtype]
        for layout, names in _matrices(module):
            shapes = [declared[name].type.get_shape() for name in names]
            widths = [shape[-1] for shape in shapes]
            if layout in (exec.Layout.COLUMNS, exec.Layout.NEURON_MAJOR):
                widths[-1] = shapes[-1][0]  # its columns are the rows that are stored
            wide = any(map(ctx.is_wide, names))
            if not wide and all(_pays(width, bits) for width in widths):
                for name in names:
                    declared[name].attributes["stored"] = IntegerType(bits)


def _matrices(module: ModuleOp) -> Iterator[Need]:
    """The matrices that kernels read; those of one MLP are kept alike."""
    by_columns = read_by_columns(module)
    for func in functions(module):
        for op in func.body.block.ops:
            if isinstance(op, spz.ExpertLinear):
                continue  # its kernel multiplies floats
            for need in needs(op, by_columns):
                if need[0] is not exec.Layout.FLOATS:
                    yield need


def _check(name: str, weights: Iterable[str]) -> None:
    """That a weight, or a module of weights, has this name."""
    if not any(covers(name, weight) for weight in weights):
        close = difflib.get_close_matches(name, list(weights), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise SparsecompError(f"{name}: the model has no weight or module of this name{hint}")


def _pays(width: int, bits: int) -> bool:
    smaller = nibbles.row_bytes(width, bits) < width * WIDE_ITEM
    return smaller and width <= nibbles.MAX_WIDTH
