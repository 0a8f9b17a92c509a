"""Kernels of attention over a cache."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import FlatSymbolRefAttrConstr, MemRefType
from xdsl.ir import SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, opt_operand_def, opt_prop_def, prop_def

from sparsecomp.dialects.spz.attributes import F64, I64, PairingAttr

from .kernel import Kernel, WorkAttr

PART_ALIGN = 16
"""A head of a partial attention: values padded to this, then maximum, sum, and padding again."""


@irdl_op_definition
class Rope(Kernel):
    """out = cos * x + sin * partner(x) for the first `rotary` elements of each head."""

    name = "exec.rope"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    cos = prop_def(FlatSymbolRefAttrConstr)
    sin = prop_def(FlatSymbolRefAttrConstr)
    rotary = prop_def(I64)
    pairing = prop_def(PairingAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Append(Kernel):
    """Writes the rows of k and v into a slot of the cache; it has no output buffer.

    With `cos` and the like, k is turned first, as exec.rope does.
    """

    name = "exec.append"
    k = operand_def(MemRefType)
    v = operand_def(MemRefType)
    slot = prop_def(I64)
    cos = opt_prop_def(FlatSymbolRefAttrConstr)
    sin = opt_prop_def(FlatSymbolRefAttrConstr)
    rotary = opt_prop_def(I64)
    pairing = opt_prop_def(PairingAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$k `,` $v `to` $slot attr-dict `:` type($k) `,` type($v)"

    @property
    def inputs(self) -> Sequence[SSAValue]:
        return self.operands

    @property
    def outputs(self) -> Sequence[SSAValue]:
        return ()


@irdl_op_definition
class Attend(Kernel):
    """Attention of q over a slot of the cache.

    In rows mode the result; in context mode each worker leaves a part, to be combined. With a list
    of heads, groups without a listed head are not read, and their parts are undefined. With `cos`
    and the like, q is turned first, as exec.rope does.
    """

    name = "exec.attend"
    q = operand_def(MemRefType)
    list = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    slot = prop_def(I64)
    scale = prop_def(F64)
    window = opt_prop_def(I64)
    chunk = opt_prop_def(I64)
    softcap = opt_prop_def(F64)
    slopes = opt_prop_def(FlatSymbolRefAttrConstr)
    sinks = opt_prop_def(FlatSymbolRefAttrConstr)
    cos = opt_prop_def(FlatSymbolRefAttrConstr)
    sin = opt_prop_def(FlatSymbolRefAttrConstr)
    rotary = opt_prop_def(I64)
    pairing = opt_prop_def(PairingAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$q (`of` $list^ `:` type($list))? `from` $slot `into` $out attr-dict `:` type($q) `,` "
        "type($out)"
    )


@irdl_op_definition
class Combine(Kernel):
    """out = the attention of all workers' parts; 0 for heads that a list leaves out."""

    name = "exec.combine"
    x = operand_def(MemRefType)
    list = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    sinks = opt_prop_def(FlatSymbolRefAttrConstr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x (`of` $list^ `:` type($list))? `into` $out attr-dict `:` type($x) `,` type($out)"
    )
