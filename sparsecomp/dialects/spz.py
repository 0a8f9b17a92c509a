"""spz: what a transformer is made of.

Values are rows of tokens, `tensor<?x9x64xf32>`: the first dimension counts tokens (`?` many, 1 in
the decode step), the rest is one token's share. Every op but attention treats each row alone, so
one definition serves a prompt, a decode step and, later, a batch. Weights are symbols. What has no
spz op stays an ATen call on rows.
"""

from __future__ import annotations

import dataclasses
from enum import auto

from xdsl.dialects.builtin import (
    FlatSymbolRefAttrConstr,
    Float64Type,
    FloatAttr,
    IntegerAttr,
    IntegerType,
    TensorType,
    UnitAttr,
)
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import (
    Data,
    Dialect,
    ParametrizedAttribute,
    SpacedOpaqueSyntaxAttribute,
    SSAValue,
    TypeAttribute,
)
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import MemoryWriteEffect, Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from sparsecomp.errors import SparsecompError
from sparsecomp.sparsity import KINDS, Choice, Exact, kind_of

F64 = FloatAttr[Float64Type]
I64 = IntegerAttr[IntegerType]


class Act(StrEnum):
    """Activation functions that an MLP kernel can fuse."""

    RELU = auto()
    RELU2 = auto()
    SILU = auto()
    GELU_ERF = auto()
    GELU_TANH = auto()
    QUICK_GELU = auto()
    SIGMOID = auto()
    TANH = auto()
    IDENTITY = auto()


class Pairing(StrEnum):
    """Which element a rotary embedding turns with element i: i +- R/2, or i ^ 1."""

    HALF = auto()
    INTERLEAVED = auto()


@irdl_attr_definition
class ActAttr(EnumAttribute[Act], SpacedOpaqueSyntaxAttribute):
    name = "spz.act"


@irdl_attr_definition
class PairingAttr(EnumAttribute[Pairing], SpacedOpaqueSyntaxAttribute):
    name = "spz.pairing"


class Side(StrEnum):
    """Which side of a matrix a selection picks blocks of: rows (outputs) or columns (inputs)."""

    OUTPUTS = auto()
    INPUTS = auto()


@irdl_attr_definition
class SideAttr(EnumAttribute[Side], SpacedOpaqueSyntaxAttribute):
    name = "spz.side"


@irdl_attr_definition
class SparsityAttr(Data[Choice]):
    """How a block is made sparse: `#spz.sparsity<cutoff, of = neuron, threshold = 0.0, ...>`.

    allocate-sparsity sets it as the attribute `sparsity` of an MLP, an attention or the head.
    """

    name = "spz.sparsity"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Choice:
        with parser.in_angle_brackets():
            kind = KINDS[parser.parse_keyword_in(tuple(KINDS))]
            types = {f.name: f.type for f in dataclasses.fields(kind)}
            values: dict[str, object] = {}
            while parser.parse_optional_punctuation(","):
                name = parser.parse_keyword_in(tuple(types))
                parser.parse_punctuation("=")
                values[name] = _parse_field(parser, str(types[name]))
            try:
                return kind(**values)  # type: ignore[arg-type]
            except (SparsecompError, TypeError) as error:
                parser.raise_error(str(error))

    def print_parameter(self, printer: Printer) -> None:
        fields = dataclasses.asdict(self.data)
        text = "".join(f", {name} = {value}" for name, value in fields.items())
        with printer.in_angle_brackets():
            printer.print_string(f"{kind_of(self.data)}{text}")


def _parse_field(parser: AttrParser, type: str) -> object:
    if type == "Exact":
        return Exact(parser.parse_keyword_in(tuple(Exact)))
    number = parser.parse_number()
    return float(number) if type == "float" else number


@irdl_attr_definition
class KVCacheType(ParametrizedAttribute, TypeAttribute):
    """The keys and values of one sequence, for every attention of the model."""

    name = "spz.kv_cache"


class SpzOp(IRDLOperation):
    """Base of the spz ops: optional properties are written in the attribute dictionary."""

    irdl_options = (ParsePropInAttrDict(),)


class PureOp(SpzOp):
    """Computes its results and does nothing else. (An op has the traits of its base too.)"""

    traits = traits_def(Pure())


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


@irdl_op_definition
class Rope(PureOp):
    """Rotary position embedding of the first R elements of each head; the others pass.

    `y[i] = cos[pos, i] * x[i] + sin[pos, i] * x[partner(i)]`, tables (positions, R). The sign that
    a rotation has is in the sine table.
    """

    name = "spz.rope"
    x = operand_def(TensorType)
    positions = operand_def(TensorType)
    cos = prop_def(FlatSymbolRefAttrConstr)
    sin = prop_def(FlatSymbolRefAttrConstr)
    rotary = prop_def(I64)
    pairing = prop_def(PairingAttr)
    result = result_def(TensorType)
    assembly_format = (
        "$x `,` $positions `,` $cos `,` $sin attr-dict `:` type($x) `,` type($positions) "
        "`->` type($result)"
    )


class AttentionOp(SpzOp):
    """Causal attention. q (T, H, D), k (T, G, D), v (T, G, E) -> (T, H, E); head h reads group
    `h * G / H`. The row at position p sees the positions j in (p - window, p] of its own chunk:

        weight(j) ~ exp(cap(scale * q.k_j) + slope_h * (j - p))
        cap(x) = softcap * tanh(x / softcap)

    A sink is a logit per head that takes its share of the softmax and adds nothing.
    With a selection (T, H) a head that is not selected gives 0.
    """


@irdl_op_definition
class Attention(AttentionOp):
    """Attention over the rows of the whole sequence."""

    name = "spz.attention"
    q = operand_def(TensorType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    selection = opt_operand_def(TensorType)
    scale = prop_def(F64)
    window = opt_prop_def(I64)
    chunk = opt_prop_def(I64)
    softcap = opt_prop_def(F64)
    slopes = opt_prop_def(FlatSymbolRefAttrConstr)
    sinks = opt_prop_def(FlatSymbolRefAttrConstr)
    result = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$q `,` $k `,` $v (`keeping` $selection^ `:` type($selection))? attr-dict `:` type($q) "
        "`,` type($k) `,` type($v) `->` type($result)"
    )

    def verify_(self) -> None:
        _verify_heads(self.q.type, self.k.type, self.v.type, self.result.type)


@irdl_op_definition
class CachedAttention(AttentionOp):
    """Writes k and v of these rows into slot `slot` of the cache, then attends over the cache."""

    name = "spz.cached_attention"
    q = operand_def(TensorType)
    k = operand_def(TensorType)
    v = operand_def(TensorType)
    positions = operand_def(TensorType)
    cache = operand_def(KVCacheType)
    selection = opt_operand_def(TensorType)
    slot = prop_def(I64)
    scale = prop_def(F64)
    window = opt_prop_def(I64)
    chunk = opt_prop_def(I64)
    softcap = opt_prop_def(F64)
    slopes = opt_prop_def(FlatSymbolRefAttrConstr)
    sinks = opt_prop_def(FlatSymbolRefAttrConstr)
    result = result_def(TensorType)
    traits = traits_def(MemoryWriteEffect())
    assembly_format = (
        "$q `,` $k `,` $v `,` $positions `,` $cache "
        "(`keeping` $selection^ `:` type($selection))? attr-dict `:` type($q) `,` type($k) `,` "
        "type($v) `,` type($positions) `->` type($result)"
    )

    def verify_(self) -> None:
        _verify_heads(self.q.type, self.k.type, self.v.type, self.result.type)


def _verify_heads(*types: object) -> None:
    q, k, v, out = (t.get_shape() for t in types if isinstance(t, TensorType))
    if not len(q) == len(k) == len(v) == len(out) == 3:
        raise VerifyException("attention takes rows of heads: (tokens, heads, size)")
    if k[1] != v[1] or q[1] % k[1] or q[2] != k[2] or out[1:] != (q[1], v[2]):
        raise VerifyException(f"attention heads do not fit: q {q}, k {k}, v {v} -> {out}")


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


# ---- sparsity: what is chosen, and what then reads the chosen alone ----


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
    `group` units in order (of equal ones the first). `magnitude` takes scores without their sign,
    `scales` (units,) multiplies them. `density` is the expected share of chosen units, `active` of
    those that are not 0 besides.
    """

    name = "spz.select"
    scores = operand_def(TensorType)
    threshold = opt_prop_def(F64)
    below = opt_prop_def(F64)
    count = opt_prop_def(I64)
    group = opt_prop_def(I64)
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
    in common; rows (V, axes), bias (V,) -> (T, V).
    """

    name = "spz.sketch"
    x = operand_def(TensorType)
    rows = prop_def(FlatSymbolRefAttrConstr)
    bias = prop_def(FlatSymbolRefAttrConstr)
    result = result_def(TensorType)
    assembly_format = "$x `,` $rows `,` $bias attr-dict `:` type($x) `->` type($result)"


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


Spz = Dialect(
    "spz",
    [
        Embed,
        RmsNorm,
        LayerNorm,
        Linear,
        LmHead,
        Rope,
        Attention,
        CachedAttention,
        Mlp,
        GatedMlp,
        ExpertLinear,
        AllReduce,
        Last,
        Predict,
        Neurons,
        Select,
        SparseMlp,
        SparseLinear,
        Sketch,
        SparseHead,
    ],
    [ActAttr, PairingAttr, SideAttr, SparsityAttr, KVCacheType],
)
