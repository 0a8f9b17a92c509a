"""Kernels of whatever was not raised: elementwise maps, folds, moves by index, experts."""

from __future__ import annotations

from enum import auto

from xdsl.dialects.builtin import FlatSymbolRefAttrConstr, MemRefType
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import SpacedOpaqueSyntaxAttribute
from xdsl.irdl import (
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import IsTerminator, Pure
from xdsl.utils.str_enum import StrEnum

from sparsecomp.dialects.spz.attributes import F64

from .kernel import Kernel, WorkAttr


class Fold(StrEnum):
    """What a reduction computes along the last dimension."""

    SUM = auto()
    MEAN = auto()
    MAX = auto()
    MIN = auto()
    SOFTMAX = auto()
    """Not a reduction: out has the shape of x."""


@irdl_attr_definition
class FoldAttr(EnumAttribute[Fold], SpacedOpaqueSyntaxAttribute):
    name = "exec.fold"


@irdl_op_definition
class Map(Kernel):
    """out[i] = body(inputs[i]), elementwise with broadcasting; the body is ATen on scalars.

    The units are the elements of the first dimension after the rows.
    """

    name = "exec.map"
    ins = var_operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    body = region_def("single_block")
    assembly_format = (
        "`(` $ins `)` `into` $out `:` type($ins) `into` type($out) attr-dict-with-keyword $body"
    )


@irdl_op_definition
class MapYield(IRDLOperation):
    """Ends the body of a map or fold."""

    name = "exec.yield"
    value = operand_def()
    traits = traits_def(IsTerminator(), Pure())
    assembly_format = "$value attr-dict `:` type($value)"


@irdl_op_definition
class Reduce(Kernel):
    """out = fold of x along its last dimension."""

    name = "exec.reduce"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    fold = prop_def(FoldAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class TopK(Kernel):
    """The k largest of the last dimension, in order: out (..., 2, k) holds values, then indices."""

    name = "exec.top_k"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Gather(Kernel):
    """out[j] = x[index[j]] along the last dimension."""

    name = "exec.gather"
    x = operand_def(MemRefType)
    index = operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $index `into` $out attr-dict `:` type($x) `,` type($index) `,` type($out)"
    )


@irdl_op_definition
class Scatter(Kernel):
    """out = x, but out[index[j]] = value along the last dimension."""

    name = "exec.scatter"
    x = operand_def(MemRefType)
    index = operand_def(MemRefType)
    out = operand_def(MemRefType)
    value = prop_def(F64)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $index `into` $out attr-dict `:` type($x) `,` type($index) `,` type($out)"
    )


@irdl_op_definition
class Last(Kernel):
    """out = the last row of the tile."""

    name = "exec.last"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class ExpertLinear(Kernel):
    """out[c] = weight[experts[c]] @ x[c] + bias[experts[c]] for each choice c of a token.

    The units are the rows of one expert's matrix.
    """

    name = "exec.expert_linear"
    x = operand_def(MemRefType)
    experts = operand_def(MemRefType)
    out = operand_def(MemRefType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $experts `,` $weight `into` $out attr-dict `:` type($x) `,` type($experts) `,` "
        "type($out)"
    )
