"""Kernels that read all of their weights, and sums."""

from __future__ import annotations

from enum import auto

from xdsl.dialects.builtin import FlatSymbolRefAttrConstr, MemRefType, UnitAttr
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import SpacedOpaqueSyntaxAttribute
from xdsl.irdl import (
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
)
from xdsl.utils.str_enum import StrEnum

from sparsecomp.dialects.spz.attributes import F64, ActAttr

from .kernel import Kernel, PartAttr, WorkAttr


class Index(StrEnum):
    """What an embedding looks rows up by."""

    TOKENS = auto()
    POSITIONS = auto()


@irdl_attr_definition
class IndexAttr(EnumAttribute[Index], SpacedOpaqueSyntaxAttribute):
    name = "exec.index"


class NormKind(StrEnum):
    RMS = auto()
    LAYER = auto()


@irdl_attr_definition
class NormKindAttr(EnumAttribute[NormKind], SpacedOpaqueSyntaxAttribute):
    name = "exec.norm_kind"


@irdl_op_definition
class Embed(Kernel):
    """out = row of the table, for each token or position."""

    name = "exec.embed"
    out = operand_def(MemRefType)
    index = prop_def(IndexAttr)
    table = prop_def(FlatSymbolRefAttrConstr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$table `into` $out attr-dict `:` type($out)"


@irdl_op_definition
class Ids(Kernel):
    """out = the token or position itself, as a float."""

    name = "exec.ids"
    out = operand_def(MemRefType)
    index = prop_def(IndexAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$out attr-dict `:` type($out)"


@irdl_op_definition
class Norm(Kernel):
    """out = norm of x over its last dimension, times weight, plus bias."""

    name = "exec.norm"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    kind = prop_def(NormKindAttr)
    weight = opt_prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    eps = prop_def(F64)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Quantize(Kernel):
    """out = the row x (1, width) rounded to 15 bits, for products with quantised weights.

    out (1, padded width) has room for the codes, their scales and their sums.
    """

    name = "exec.quantize"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Linear(Kernel):
    """out = x @ weight.T + bias + residual; the units are the rows of the weight.

    The weight may be stored by columns, for another kernel's sake. With a quantised weight stored
    by rows, one row x is what exec.quantize made of it; so it is for the neurons of an MLP.
    """

    name = "exec.linear"
    x = operand_def(MemRefType)
    residual = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    part = prop_def(PartAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $weight (`plus` $residual^ `:` type($residual))? `into` $out attr-dict `:` "
        "type($x) `,` type($out)"
    )


@irdl_op_definition
class Activate(Kernel):
    """out = act(x), or act(x) * up, elementwise."""

    name = "exec.activate"
    x = operand_def(MemRefType)
    up = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    act = prop_def(ActAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x (`times` $up^ `:` type($up))? `into` $out attr-dict `:` type($x) `,` type($out)"
    )


@irdl_op_definition
class Mlp(Kernel):
    """out = sum over neurons of act(gate.x) (up.x) down, without the bias of down.

    The units are the neurons: split, each worker leaves the sum over its own.
    """

    name = "exec.mlp"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    weights = prop_def(FlatSymbolRefAttrConstr)
    gate_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    up_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    gated = opt_prop_def(UnitAttr)
    act = prop_def(ActAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `,` $weights `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Sum(Kernel):
    """out = residual + bias + the parts of all workers (in rows mode: the worker's own)."""

    name = "exec.sum"
    x = operand_def(MemRefType)
    residual = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x (`plus` $residual^ `:` type($residual))? `into` $out attr-dict `:` "
        "type($x) `,` type($out)"
    )


@irdl_op_definition
class AllReduce(Kernel):
    """out = the sum over all ranks of x; without x this rank adds nothing.

    One worker does it for the rows of all, so x is shared where there are many.
    """

    name = "exec.all_reduce"
    x = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    assembly_format = "($x^ `:` type($x))? `into` $out attr-dict `:` type($out)"
