"""What a dense model is made of: embeddings, norms, linears, MLPs, experts; sums over ranks."""

from __future__ import annotations

from xdsl.dialects.builtin import FlatSymbolRefAttrConstr, TensorType
from xdsl.ir import SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import MemoryWriteEffect
from xdsl.utils.exceptions import VerifyException

from .attributes import F64, ActAttr
from .operation import PureOp


@irdl_op_definition
class Embed(PureOp):
    """Row `ids[t]` of a table (vocabulary, or positions): (T,) x (V, ...) -> (T, ...)."""

    name = "spz.embed"
    ids = operand_def(TensorType)
    table = prop_def(FlatSymbolRefAttrConstr)
    result = result_def(TensorType)
    assembly_format = "$ids `,` $table attr-dict `:` type($ids) `->` type($result)"


@irdl_op_definition
class RmsNorm(PureOp):
    """`x / sqrt(mean(x^2) + eps) * weight` over the last dimension."""

    name = "spz.rms_norm"
    x = operand_def(TensorType)
    weight = opt_prop_def(FlatSymbolRefAttrConstr)
    eps = prop_def(F64)
    result = result_def(TensorType)
    assembly_format = "$x (`,` $weight^)? attr-dict `:` type($x) `->` type($result)"


@irdl_op_definition
class LayerNorm(PureOp):
    """`(x - mean) / sqrt(var + eps) * weight + bias` over the last dimension."""

    name = "spz.layer_norm"
    x = operand_def(TensorType)
    weight = opt_prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    eps = prop_def(F64)
    result = result_def(TensorType)
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"


@irdl_op_definition
class Linear(PureOp):
    """`x @ weight.T + bias` over the last dimension: (T, ..., in) x (out, in) -> (T, ..., out)."""

    name = "spz.linear"
    x = operand_def(TensorType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    result = result_def(TensorType)
    assembly_format = "$x `,` $weight (`,` $bias^)? attr-dict `:` type($x) `->` type($result)"


@irdl_op_definition
class LmHead(PureOp):
    """The linear that scores the vocabulary: (T, hidden) x (vocab, hidden) -> (T, vocab)."""

    name = "spz.lm_head"
    x = operand_def(TensorType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    result = result_def(TensorType)
    assembly_format = "$x `,` $weight (`,` $bias^)? attr-dict `:` type($x) `->` type($result)"


class KeepingOp(PureOp):
    """An MLP that may keep a selection (T, neurons) of its neurons: the others count as 0.

    Or it keeps two, with coarse values (T, neurons): a neuron that the second selects counts as
    its coarse value times the coarse copy of its column of down, see Neurons.
    """

    @property
    def selection(self) -> SSAValue | None:
        return self.operands[1] if len(self.operands) > 1 else None

    def verify_(self) -> None:
        if len(self.operands) not in (1, 2, 4):
            raise VerifyException("keeps a selection, or two and the second's values")


@irdl_op_definition
class Mlp(KeepingOp):
    """`act(x @ up.T + up_bias) @ down.T + down_bias`; up (neurons, in), down (out, neurons).

    It may keep a selection, see KeepingOp.
    """

    name = "spz.mlp"
    x = operand_def(TensorType)
    kept = var_operand_def(TensorType)
    up = prop_def(FlatSymbolRefAttrConstr)
    down = prop_def(FlatSymbolRefAttrConstr)
    up_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    down_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    act = prop_def(ActAttr)
    result = result_def(TensorType)
    assembly_format = (
        "$x `,` $up `,` $down (`keeping` $kept^ `:` type($kept))? attr-dict `:` "
        "type($x) `->` type($result)"
    )


@irdl_op_definition
class GatedMlp(KeepingOp):
    """`(act(x @ gate.T + gate_bias) * (x @ up.T + up_bias)) @ down.T + down_bias`.

    It may keep a selection, see KeepingOp.
    """

    name = "spz.gated_mlp"
    x = operand_def(TensorType)
    kept = var_operand_def(TensorType)
    gate = prop_def(FlatSymbolRefAttrConstr)
    up = prop_def(FlatSymbolRefAttrConstr)
    down = prop_def(FlatSymbolRefAttrConstr)
    gate_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    up_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    down_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    act = prop_def(ActAttr)
    result = result_def(TensorType)
    assembly_format = (
        "$x `,` $gate `,` $up `,` $down (`keeping` $kept^ `:` type($kept))? attr-dict "
        "`:` type($x) `->` type($result)"
    )


@irdl_op_definition
class ExpertLinear(PureOp):
    """A linear of the experts that each token chose, each with its own input.

    `x[t, c] @ weight[experts[t, c]].T + bias[experts[t, c]]`: x (T, C, in), experts (T, C), weight
    (experts, out, in), bias (experts, out) -> (T, C, out). Only the chosen experts are read.
    """

    name = "spz.expert_linear"
    x = operand_def(TensorType)
    experts = operand_def(TensorType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    result = result_def(TensorType)
    assembly_format = (
        "$x `,` $experts `,` $weight (`,` $bias^)? attr-dict `:` type($x) `,` type($experts) "
        "`->` type($result)"
    )


@irdl_op_definition
class AllReduce(IRDLOperation):
    """The sum over all ranks of what each has; without x this rank has nothing to add.

    Every rank has the same of these, in the same order, so none is dead code.
    """

    name = "spz.all_reduce"
    x = opt_operand_def(TensorType)
    result = result_def(TensorType)
    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(MemoryWriteEffect())
    assembly_format = "($x^ `:` type($x))? attr-dict `->` type($result)"


@irdl_op_definition
class Last(PureOp):
    """The last row alone: (T, ...) -> (1, ...)."""

    name = "spz.last"
    x = operand_def(TensorType)
    result = result_def(TensorType)
    assembly_format = "$x attr-dict `:` type($x) `->` type($result)"
