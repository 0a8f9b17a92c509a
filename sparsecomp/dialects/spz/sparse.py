"""What makes blocks sparse: ops that choose units, and ops that read the chosen ones alone."""

from __future__ import annotations

from xdsl.dialects.builtin import FlatSymbolRefAttrConstr, TensorType, UnitAttr
from xdsl.irdl import (
    AttrSizedOperandSegments,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
)
from xdsl.utils.exceptions import VerifyException

from .attributes import F64, I64, ActAttr, SideAttr
from .operation import PureOp


@irdl_op_definition
class Predict(PureOp):
    """Scores of units (neurons, heads) from a low-rank product: `(x @ down.T) @ up.T + bias`.

    x (T, in), down (rank, in), up (units, rank), bias (units,) -> (T, units). `lookahead` says how
    many blocks earlier x was a block's input (Deja Vu, section 4.3).
    """

    name = "spz.predict"
    x = operand_def(TensorType)
    down = prop_def(FlatSymbolRefAttrConstr)
    up = prop_def(FlatSymbolRefAttrConstr)
    bias = prop_def(FlatSymbolRefAttrConstr)
    lookahead = prop_def(I64)
    result = result_def(TensorType)
    assembly_format = "$x `,` $down `,` $up `,` $bias attr-dict `:` type($x) `->` type($result)"


@irdl_op_definition
class Neurons(PureOp):
    """What the neurons of an MLP give, exactly: (T, in) -> (T, neurons).

    `act(x @ up.T + up_bias)`; with a gate `act(x @ gate.T + gate_bias) * (x @ up.T + up_bias)`, or
    without `up` the gate's activation alone.

    `coarse` takes of each weight what the high plane of its 8 bits says (see nibbles.py). What that
    leaves out of the products is then corrected: `z @ correction.T` is added to them, z (T, rank),
    correction (parts neurons, rank). Neuron n has its rows from `parts n` on: of gate, then of up.

    `approximate` ones stand for other neurons, to choose among these: their matrices were made
    for that, and no MLP has them.
    """

    name = "spz.neurons"
    x = operand_def(TensorType)
    z = opt_operand_def(TensorType)
    correction = opt_prop_def(FlatSymbolRefAttrConstr)
    coarse = opt_prop_def(UnitAttr)
    approximate = opt_prop_def(UnitAttr)
    gate = opt_prop_def(FlatSymbolRefAttrConstr)
    up = opt_prop_def(FlatSymbolRefAttrConstr)
    gate_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    up_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    act = prop_def(ActAttr)
    result = result_def(TensorType)
    assembly_format = (
        "$x (`corrected` `by` $z^ `:` type($z))? attr-dict `:` type($x) `->` type($result)"
    )

    def verify_(self) -> None:
        if self.gate is None and self.up is None:
            raise VerifyException("neurons have a gate, an up matrix, or both")
        if (self.z is None) != (self.correction is None):
            raise VerifyException("a correction has a matrix and what it is multiplied with")
        if self.coarse is None and self.z is not None:
            raise VerifyException("only coarse neurons are corrected")
        if self.coarse is not None and self.up is None:
            raise VerifyException("coarse neurons are whole ones")
        if self.approximate is not None and (self.coarse is not None or self.up is None):
            raise VerifyException("approximate neurons are whole ones, of all of their weights")


@irdl_op_definition
class Select(PureOp):
    """Which units are chosen: scores (T, units) -> (T, units) i1.

    Those above `threshold` and not above `below`; or, with a `group`, the `count` largest of each
    `group` units in order (of equal ones the first), and where the group is all units also those
    of a softmax above `probability`. `magnitude` takes scores without their sign, `scales`
    (units,) multiplies them. `density` is the expected share of chosen units, `active` of
    those that are not 0 besides.
    """

    name = "spz.select"
    scores = operand_def(TensorType)
    threshold = opt_prop_def(F64)
    below = opt_prop_def(F64)
    count = opt_prop_def(I64)
    group = opt_prop_def(I64)
    probability = opt_prop_def(F64)
    magnitude = opt_prop_def(UnitAttr)
    scales = opt_prop_def(FlatSymbolRefAttrConstr)
    density = prop_def(F64)
    active = prop_def(F64)
    result = result_def(TensorType)
    assembly_format = "$scores attr-dict `:` type($scores) `->` type($result)"

    def verify_(self) -> None:
        if (self.threshold is None) == (self.group is None) or (
            (self.count is None) != (self.group is None)
        ):
            raise VerifyException("select has a threshold, or a count and a group")
        if self.below is not None and self.threshold is None:
            raise VerifyException("select is below something where it is above a threshold")
        if self.probability is not None:
            assert isinstance(self.scores.type, TensorType)
            units = self.scores.type.get_shape()[-1]
            one = self.group is not None and self.group.value.data == units
            if not one or self.magnitude is not None or self.scales is not None:
                raise VerifyException("a probability is of plain scores, in one group of all units")


@irdl_op_definition
class SparseMlp(PureOp):
    """An MLP that reads the selected neurons alone: what the mlp `keeping` the selection computes.

    `values` (T, neurons) is what of them is known: the neurons' values (then only down is read),
    or, with `gate_known`, the gates' activations (then up and down are read).
    `rest` selects neurons that count as their `coarse` values (T, neurons), for which the coarse
    copy of down is read; `rest_density` is their expected share.
    `density` and `active` are those of the selection: of the chosen neurons those that are 0 after
    their first product are not read further.
    """

    name = "spz.sparse_mlp"
    x = operand_def(TensorType)
    selection = operand_def(TensorType)
    values = opt_operand_def(TensorType)
    rest = opt_operand_def(TensorType)
    coarse = opt_operand_def(TensorType)
    gate = opt_prop_def(FlatSymbolRefAttrConstr)
    up = prop_def(FlatSymbolRefAttrConstr)
    down = prop_def(FlatSymbolRefAttrConstr)
    gate_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    up_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    down_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    act = prop_def(ActAttr)
    gate_known = opt_prop_def(UnitAttr)
    density = prop_def(F64)
    active = prop_def(F64)
    rest_density = opt_prop_def(F64)
    result = result_def(TensorType)
    irdl_options = (  # type: ignore[assignment]
        ParsePropInAttrDict(),
        AttrSizedOperandSegments(as_property=True),
    )
    assembly_format = (
        "$x `,` $selection (`knowing` $values^ `:` type($values))? "
        "(`and` $rest^ `of` $coarse `:` type($rest) `,` type($coarse))? attr-dict `:` type($x) "
        "`,` type($selection) `->` type($result)"
    )

    def verify_(self) -> None:
        if not (self.rest is None) == (self.coarse is None) == (self.rest_density is None):
            raise VerifyException("coarse neurons have a selection, values and a density")


@irdl_op_definition
class SparseLinear(PureOp):
    """A linear of which only the selected blocks of one side are read.

    The selection (T, B) cuts the outputs or the inputs into B equal blocks. Of outputs: a block
    that is not selected is 0, without bias. Of inputs: a block that is not selected counts as 0.
    """

    name = "spz.sparse_linear"
    x = operand_def(TensorType)
    selection = operand_def(TensorType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    side = prop_def(SideAttr)
    density = prop_def(F64)
    result = result_def(TensorType)
    assembly_format = (
        "$x `,` $selection `,` $weight (`,` $bias^)? attr-dict `:` type($x) `,` type($selection) "
        "`->` type($result)"
    )


@irdl_op_definition
class Sketch(PureOp):
    """Scores of a vocabulary from a sketch of the head: `x[:, :-1] @ rows.T + bias + x[:, -1:]`.

    x (T, axes + 1) is the head's input in the axes of the sketch, and behind it what all rows have
    in common; rows (V, axes), bias (V,) -> (T, V). `bits` are those of a coarse weight; with 1 it
    is the first sketch of a cascade.
    """

    name = "spz.sketch"
    x = operand_def(TensorType)
    rows = prop_def(FlatSymbolRefAttrConstr)
    bias = prop_def(FlatSymbolRefAttrConstr)
    bits = prop_def(I64)
    result = result_def(TensorType)
    assembly_format = "$x `,` $rows `,` $bias attr-dict `:` type($x) `->` type($result)"


@irdl_op_definition
class Refine(PureOp):
    """The scores of a first sketch (T, V) once more: of the selected rows with what it leaves of
    them, of the others as they are plus `offset`. x and rows are those of the sketch. `density` is
    the expected share of rows selected.
    """

    name = "spz.refine"
    scores = operand_def(TensorType)
    selection = operand_def(TensorType)
    x = operand_def(TensorType)
    rows = prop_def(FlatSymbolRefAttrConstr)
    offset = prop_def(F64)
    density = prop_def(F64)
    result = result_def(TensorType)
    assembly_format = (
        "$scores `,` $selection `,` $x `,` $rows attr-dict `:` type($scores) `,` type($selection) "
        "`,` type($x) `->` type($result)"
    )


@irdl_op_definition
class SparseHead(PureOp):
    """The head of which only the selected rows are read: (T, hidden) -> (T, V).

    The logits that are not selected (T, V) are their scores (T, V) plus `offset`. `density` is that
    of the selection.
    """

    name = "spz.sparse_head"
    x = operand_def(TensorType)
    selection = operand_def(TensorType)
    scores = operand_def(TensorType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    offset = prop_def(F64)
    density = prop_def(F64)
    result = result_def(TensorType)
    assembly_format = (
        "$x `,` $selection `,` $scores `,` $weight (`,` $bias^)? attr-dict `:` type($x) `,` "
        "type($selection) `,` type($scores) `->` type($result)"
    )
