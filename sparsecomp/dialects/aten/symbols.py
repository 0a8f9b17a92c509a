"""Weights by symbol: declared, derived from others, read."""

from __future__ import annotations

from xdsl.dialects.builtin import (
    FlatSymbolRefAttrConstr,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    TensorType,
)
from xdsl.ir import Attribute, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
)
from xdsl.traits import HasParent, IsolatedFromAbove, IsTerminator, Pure, SymbolOpInterface


@irdl_op_definition
class Weight(IRDLOperation):
    """Declares a tensor of the checkpoint by its name there."""

    name = "aten.weight"
    sym_name = prop_def(SymbolNameConstraint())
    type = prop_def(TensorType)
    traits = traits_def(SymbolOpInterface())
    assembly_format = "$sym_name `:` $type attr-dict"

    def __init__(self, name: str, type: TensorType[Attribute]):
        super().__init__(properties={"sym_name": StringAttr(name), "type": type})


@irdl_op_definition
class Derived(IRDLOperation):
    """A tensor computed once, at compile time, from weights and positions alone.

    The body is ATen code that ends in `aten.yield`. In it `s` is the number of positions compiled
    for, so a value of type `tensor<?x64xf32>` has one row a position.
    """

    name = "aten.derived"
    sym_name = prop_def(SymbolNameConstraint())
    type = prop_def(TensorType)
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove())
    assembly_format = "$sym_name `:` $type $body attr-dict"

    def __init__(self, name: str, type: TensorType[Attribute], body: Region):
        super().__init__(properties={"sym_name": StringAttr(name), "type": type}, regions=[body])


@irdl_op_definition
class Yield(IRDLOperation):
    """Ends the body of a derived weight."""

    name = "aten.yield"
    value = operand_def(TensorType)
    traits = traits_def(IsTerminator(), HasParent(Derived), Pure())
    assembly_format = "$value `:` type($value) attr-dict"

    def __init__(self, value: SSAValue):
        super().__init__(operands=[value])


@irdl_op_definition
class Get(IRDLOperation):
    """The value of a weight or derived weight."""

    name = "aten.get"
    weight = prop_def(FlatSymbolRefAttrConstr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$weight `:` type($result) attr-dict"

    def __init__(self, name: str, type: Attribute):
        super().__init__(properties={"weight": SymbolRefAttr(name)}, result_types=[type])
