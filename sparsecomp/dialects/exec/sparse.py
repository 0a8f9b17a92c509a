"""Kernels that choose units, and those that read chosen units alone."""

from __future__ import annotations

from xdsl.dialects.builtin import FlatSymbolRefAttrConstr, MemRefType, UnitAttr
from xdsl.irdl import (
    AttrSizedOperandSegments,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
)

from sparsecomp.dialects.spz.attributes import F64, I64, ActAttr, SideAttr

from .kernel import Kernel, PartAttr, WorkAttr
from .storage import Layout, find_storage


@irdl_op_definition
class Select(Kernel):
    """out = the list of the chosen units: how many, then their indices, ascending, as int32.

    x (1, units) -> out (1, 1 + units). See spz.select for what is chosen. `or_all`: a caller that
    wants full logits has all units chosen.
    """

    name = "exec.select"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    threshold = opt_prop_def(F64)
    below = opt_prop_def(F64)
    count = opt_prop_def(I64)
    group = opt_prop_def(I64)
    probability = opt_prop_def(F64)
    magnitude = opt_prop_def(UnitAttr)
    scales = opt_prop_def(FlatSymbolRefAttrConstr)
    or_all = opt_prop_def(UnitAttr)
    density = prop_def(F64)
    part = prop_def(PartAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Neurons(Kernel):
    """out = the values of an MLP's neurons, or with `gate_only` their gates' activations.

    The units are the neurons. `coarse` reads the high planes alone, and adds to their products
    those of z and `correction`, stored in 4 bits, see spz.neurons. Approximate ones lie as rows:
    of a neuron that of gate, if gated, then that of up.
    """

    name = "exec.neurons"
    x = operand_def(MemRefType)
    z = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    weights = prop_def(FlatSymbolRefAttrConstr)
    correction = opt_prop_def(FlatSymbolRefAttrConstr)
    coarse = opt_prop_def(UnitAttr)
    gate_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    up_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    gated = opt_prop_def(UnitAttr)
    gate_only = opt_prop_def(UnitAttr)
    act = prop_def(ActAttr)
    work = opt_prop_def(WorkAttr)

    @property
    def approximate(self) -> bool:
        """Whether no MLP has these neurons."""
        return find_storage(self, self.weights).layout.data is Layout.ROWS

    assembly_format = (
        "$x `,` $weights (`corrected` `by` $z^ `:` type($z))? `into` $out attr-dict `:` type($x) "
        "`,` type($out)"
    )


@irdl_op_definition
class SparseMlp(Kernel):
    """out = the sum over the listed neurons, without the bias of down; each worker a part.

    `values` are known: the neurons' values, or with `gate_known` their gates' activations. Without
    them a neuron whose activation is 0 after its first product is not read further.
    `density` is the expected share of neurons listed, `active` of those also read further.
    The neurons listed in `rest`, a share `rest_density`, are added by their `coarse` values and the
    high planes of down.
    """

    name = "exec.sparse_mlp"
    x = operand_def(MemRefType)
    list = operand_def(MemRefType)
    values = opt_operand_def(MemRefType)
    rest = opt_operand_def(MemRefType)
    coarse = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    weights = prop_def(FlatSymbolRefAttrConstr)
    gate_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    up_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    gated = opt_prop_def(UnitAttr)
    gate_known = opt_prop_def(UnitAttr)
    act = prop_def(ActAttr)
    density = prop_def(F64)
    active = prop_def(F64)
    rest_density = opt_prop_def(F64)
    work = opt_prop_def(WorkAttr)
    irdl_options = (  # type: ignore[assignment]
        ParsePropInAttrDict(),
        AttrSizedOperandSegments(as_property=True),
    )
    assembly_format = (
        "$x `,` $weights `of` $list `:` type($list) (`knowing` $values^ `:` type($values))? "
        "(`and` $rest^ `of` $coarse `:` type($rest) `,` type($coarse))? `into` $out attr-dict `:` "
        "type($x) `,` type($out)"
    )


@irdl_op_definition
class SparseLinear(Kernel):
    """A linear over the listed blocks of one side of its weight.

    Of outputs: out = the rows of the listed blocks, 0 elsewhere; the units are the rows within a
    block. Of inputs: each worker leaves the sum over its columns within each listed block, without
    bias; the weight is stored by columns and the units are the columns within a block.
    """

    name = "exec.sparse_linear"
    x = operand_def(MemRefType)
    list = operand_def(MemRefType)
    out = operand_def(MemRefType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    side = prop_def(SideAttr)
    blocks = prop_def(I64)
    density = prop_def(F64)
    part = prop_def(PartAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $weight `of` $list `:` type($list) `into` $out attr-dict `:` type($x) `,` "
        "type($out)"
    )


@irdl_op_definition
class Sketch(Kernel):
    """out = the scores (1, V) of x (1, axes + 1) in a sketch; the units are its rows.

    x is rounded to 8 bits in the groups of the sketch, but for its last element. Where these are of
    1 bit, the last coarse axes are not there.
    """

    name = "exec.sketch"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    rows = prop_def(FlatSymbolRefAttrConstr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `,` $rows `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Refine(Kernel):
    """out (1, V) = of the listed rows scores (1, V) plus the products of x (1, axes + 1) with their
    refinement, of the others scores + offset.

    Workers take turns at the list as in exec.sparse_head. x is rounded to 8 bits line by line, but
    for its last element, which is not used.
    """

    name = "exec.refine"
    scores = operand_def(MemRefType)
    list = operand_def(MemRefType)
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    rows = prop_def(FlatSymbolRefAttrConstr)
    offset = prop_def(F64)
    density = prop_def(F64)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$scores `,` $rows `of` $list `by` $x `:` type($list) `,` type($x) `into` $out attr-dict "
        "`:` type($scores) `,` type($out)"
    )


@irdl_op_definition
class SparseHead(Kernel):
    """out (1, V) = the head's logits of the listed rows, of the others scores (1, V) + offset.

    Workers take turns at the list, 32 entries each, with all rows up to those of the next turn.
    """

    name = "exec.sparse_head"
    x = operand_def(MemRefType)
    list = operand_def(MemRefType)
    scores = operand_def(MemRefType)
    out = operand_def(MemRefType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    offset = prop_def(F64)
    density = prop_def(F64)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $weight `of` $list `:` type($list) `else` $scores `:` type($scores) `into` $out "
        "attr-dict `:` type($x) `,` type($out)"
    )
