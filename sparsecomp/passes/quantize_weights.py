"""quantize-weights: which matrices are kept in 8, 6, 5 or 4 bits.

All that linears, embeddings, MLPs and the head read, but what a recipe wants wider, and rows so
short that their padding would take more than it saves. Narrow blocks and what approximates neurons
have widths of their own; what corrects coarse ones always is in 4 bits. The declaration of a weight
then says what it is `stored` as. Norms, biases and tables stay f32.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping

from xdsl.dialects.builtin import IntegerType, ModuleOp

from sparsecomp import nibbles
from sparsecomp.dialects import aten, exec, spz
from sparsecomp.errors import SparsecompError
from sparsecomp.options import Dtype
from sparsecomp.sparsity import Narrow

from .base import Form, Pass, PassContext, covers, function, functions, module_path
from .blocks import HeadBlock, blocks, weight_shapes
from .choose_layouts import Need, declarations, needs, read_by_columns, symbols
from .insert_predictors import sparsity_of
from .narrow import has_long_rows, narrowed

BITS = {Dtype.INT8: 8, Dtype.INT4: 4}
CORRECTION_BITS = 4

OWN_BITS = (exec.Layout.FLOATS, exec.Layout.SKETCH, exec.Layout.REFINEMENT)
"""Layouts that say themselves how many bits a weight takes."""


class QuantizeWeights(Pass):
    name = "quantize-weights"
    help = "keep matrices in 8 or 4 bits, where that was asked for"
    requires = (Form.ROWS, Form.DECODE)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        declared = declarations(module)
        for name in ctx.wider:
            _check(name, declared)
        _store_narrow(module, declared)
        _store(module, ctx, declared)
        for op in _coarse_neurons(module):
            stored = {declared[name].attributes.get("stored") for name in symbols(op, "gate", "up")}
            if stored != {IntegerType(8)}:
                raise SparsecompError(
                    f"{module_path(op)}: nested needs its weights in 8 bits: --dtype int8, and "
                    "nothing of it in the recipe's wider; kind: cutoff works with any"
                )


def _store_narrow(module: ModuleOp, declared: Mapping[str, aten.Weight | aten.Derived]) -> None:
    """The weights of narrow blocks; those with rows too short for it stay like the others."""
    shapes = weight_shapes(module)
    for block in blocks(function(module, "decode")):
        choice = sparsity_of(block.op)
        if not isinstance(choice, Narrow) or isinstance(block, HeadBlock):
            continue
        if has_long_rows(block, shapes):
            for part in narrowed(block, choice):
                for name in part.weights:
                    declared[name].attributes["stored"] = IntegerType(part.bits)
        del block.op.attributes["sparsity"]


def _store(
    module: ModuleOp, ctx: PassContext, declared: Mapping[str, aten.Weight | aten.Derived]
) -> None:
    of_approximations = _approximations(module, ctx.dtype)
    for layout, names in _matrices(module):
        dtype = of_approximations.get(names[0], ctx.dtype)
        shapes = [declared[name].type.get_shape() for name in names]
        widths = [shape[-1] for shape in shapes]
        if layout in (exec.Layout.COLUMNS, exec.Layout.NEURON_MAJOR):
            widths[-1] = shapes[-1][0]  # its columns are the rows that are stored
        if "stored" in declared[names[0]].attributes:
            continue  # decided where it was made
        if bits := stored_bits(names, widths, dtype, ctx.wider):
            for name in names:
                declared[name].attributes["stored"] = IntegerType(bits)
    for op in _coarse_neurons(module):
        for name in symbols(op, "correction"):
            declared[name].attributes["stored"] = IntegerType(CORRECTION_BITS)


def _matrices(module: ModuleOp) -> Iterator[Need]:
    """The matrices that kernels read; those of one MLP are kept alike."""
    by_columns = read_by_columns(module)
    for func in functions(module):
        for op in func.body.block.ops:
            if isinstance(op, spz.ExpertLinear):
                continue  # its kernel multiplies floats
            for need in needs(op, by_columns):
                if need[0] not in OWN_BITS:
                    yield need


def _approximations(module: ModuleOp, dtype: Dtype) -> dict[str, Dtype]:
    """How the matrices of approximate neurons are to be stored, by name."""
    basis, factors = approximation_dtypes(dtype)
    found: dict[str, Dtype] = {}
    for op in _neurons(module):
        if op.approximate is not None:
            found |= dict.fromkeys(symbols(op, "gate", "up"), factors)
            if isinstance(op.x.owner, spz.Linear):
                found |= dict.fromkeys(symbols(op.x.owner, "weight"), basis)
    return found


def approximation_dtypes(dtype: Dtype) -> tuple[Dtype, Dtype]:
    """The storage types of an approximation's basis, and of its gate and up. In 4 bits a basis
    leaves out up to twenty times as much of a ReLU model's neurons as in 8."""
    return (Dtype.INT8, Dtype.INT4) if dtype in BITS else (dtype, dtype)


def _coarse_neurons(module: ModuleOp) -> Iterator[spz.Neurons]:
    return (op for op in _neurons(module) if op.coarse is not None)


def _neurons(module: ModuleOp) -> Iterator[spz.Neurons]:
    for func in functions(module):
        for op in func.body.block.ops:
            if isinstance(op, spz.Neurons):
                yield op


def _check(name: str, weights: Iterable[str]) -> None:
    """That a weight, or a module of weights, has this name."""
    if not any(covers(name, weight) for weight in weights):
        close = difflib.get_close_matches(name, list(weights), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise SparsecompError(f"{name}: the model has no weight or module of this name{hint}")


def stored_bits(
    names: Iterable[str], widths: Iterable[int], dtype: Dtype, wider: Iterable[str]
) -> int:
    """The bits of weights that are stored together with rows of these widths; 0: not quantised."""
    if dtype not in BITS or any(covers(wide, name) for wide in wider for name in names):
        return 0
    bits = BITS[dtype]
    return bits if all(nibbles.pays(width, bits) for width in widths) else 0
