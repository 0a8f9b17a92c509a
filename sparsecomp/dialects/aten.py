"""aten: the exported graph, one op per torch call, nothing model-specific.

Each class is one ATen overload; its line is the part of torch's own schema that carries meaning.
Values are `tensor<1x?x64xf32>`: batch 1, `?` is the sequence length `s`. Weights enter by symbol.
"""

from __future__ import annotations

from collections.abc import Callable

from xdsl.dialects.builtin import (
    FlatSymbolRefAttrConstr,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    TensorType,
)
from xdsl.ir import Attribute, Dialect, Region, SSAValue
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

from . import schema as _schema
from .schema import C, CallOp


class AtenOp(CallOp):
    """Base of all ATen calls."""


class Elementwise(AtenOp):
    """An output element depends on the operands' elements at its own (broadcast) index alone."""


class Structural(AtenOp):
    """Moves elements and computes nothing: an index map of its operands."""


class Creation(AtenOp):
    """Reads no operand's elements, at most a shape."""


# ---- weights by symbol ----


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


def schema(line: str) -> Callable[[type[C]], type[C]]:
    return _schema.schema("aten", line)


# ---- positions and constants ----


@schema("arange(Scalar end, ScalarType? dtype=None) -> Tensor")
class Arange(Creation): ...


@schema("arange.start(Scalar start, Scalar end, ScalarType? dtype=None) -> Tensor")
class ArangeStart(Creation): ...


@schema(
    "arange.start_step(Scalar start, Scalar end, Scalar step=1, ScalarType? dtype=None) -> Tensor"
)
class ArangeStep(Creation): ...


@schema("zeros(SymInt[] size, ScalarType? dtype=None) -> Tensor")
class Zeros(Creation): ...


@schema("ones(SymInt[] size, ScalarType? dtype=None) -> Tensor")
class Ones(Creation): ...


@schema("full(SymInt[] size, Scalar fill_value, ScalarType? dtype=None) -> Tensor")
class Full(Creation): ...


@schema("scalar_tensor(Scalar s, ScalarType? dtype=None) -> Tensor")
class ScalarTensor(Creation): ...


@schema("linspace(Scalar start, Scalar end, int steps, ScalarType? dtype=None) -> Tensor")
class Linspace(Creation): ...


@schema("zeros_like(Tensor self, ScalarType? dtype=None) -> Tensor")
class ZerosLike(Creation): ...


@schema("ones_like(Tensor self, ScalarType? dtype=None) -> Tensor")
class OnesLike(Creation): ...


@schema("full_like(Tensor self, Scalar fill_value, ScalarType? dtype=None) -> Tensor")
class FullLike(Creation): ...


@schema("new_zeros(Tensor self, SymInt[] size, ScalarType? dtype=None) -> Tensor")
class NewZeros(Creation): ...


@schema("new_ones(Tensor self, SymInt[] size, ScalarType? dtype=None) -> Tensor")
class NewOnes(Creation): ...


@schema("new_full(Tensor self, SymInt[] size, Scalar fill_value, ScalarType? dtype=None) -> Tensor")
class NewFull(Creation): ...


# ---- index maps ----


@schema("view(Tensor self, SymInt[] size) -> Tensor")
class View(Structural): ...


@schema("reshape(Tensor self, SymInt[] shape) -> Tensor")
class Reshape(Structural): ...


@schema("_unsafe_view(Tensor self, SymInt[] size) -> Tensor")
class UnsafeView(Structural): ...


@schema("flatten.using_ints(Tensor self, int start_dim=0, int end_dim=-1) -> Tensor")
class Flatten(Structural): ...


@schema("unflatten.int(Tensor self, int dim, SymInt[] sizes) -> Tensor")
class Unflatten(Structural): ...


@schema("unsqueeze(Tensor self, int dim) -> Tensor")
class Unsqueeze(Structural): ...


@schema("squeeze(Tensor self) -> Tensor")
class Squeeze(Structural): ...


@schema("squeeze.dim(Tensor self, int dim) -> Tensor")
class SqueezeDim(Structural): ...


@schema("squeeze.dims(Tensor self, int[] dim) -> Tensor")
class SqueezeDims(Structural): ...


@schema("transpose.int(Tensor self, int dim0, int dim1) -> Tensor")
class Transpose(Structural): ...


@schema("swapaxes(Tensor self, int axis0, int axis1) -> Tensor")
class Swapaxes(Structural): ...


@schema("swapdims(Tensor self, int dim0, int dim1) -> Tensor")
class Swapdims(Structural): ...


@schema("permute(Tensor self, int[] dims) -> Tensor")
class Permute(Structural): ...


@schema("movedim.int(Tensor self, int source, int destination) -> Tensor")
class Movedim(Structural): ...


@schema("t(Tensor self) -> Tensor")
class T(Structural): ...


@schema("numpy_T(Tensor self) -> Tensor")
class NumpyT(Structural): ...


@schema("mT(Tensor self) -> Tensor")
class MT(Structural): ...


@schema("expand(Tensor self, SymInt[] size) -> Tensor")
class Expand(Structural): ...


@schema("expand_as(Tensor self, Tensor other) -> Tensor")
class ExpandAs(Structural): ...


@schema("broadcast_to(Tensor self, SymInt[] size) -> Tensor")
class BroadcastTo(Structural): ...


@schema("view_as(Tensor self, Tensor other) -> Tensor")
class ViewAs(Structural): ...


@schema("reshape_as(Tensor self, Tensor other) -> Tensor")
class ReshapeAs(Structural): ...


@schema("repeat(Tensor self, SymInt[] repeats) -> Tensor")
class Repeat(Structural): ...


@schema("tile(Tensor self, SymInt[] dims) -> Tensor")
class Tile(Structural): ...


@schema("repeat_interleave.self_int(Tensor self, SymInt repeats, int? dim=None) -> Tensor")
class RepeatInterleave(Structural): ...


@schema(
    "slice.Tensor(Tensor self, int dim=0, SymInt? start=None, SymInt? end=None, "
    "SymInt step=1) -> Tensor"
)
class Slice(Structural): ...


@schema("narrow(Tensor self, int dim, SymInt start, SymInt length) -> Tensor")
class Narrow(Structural): ...


@schema("select.int(Tensor self, int dim, SymInt index) -> Tensor")
class Select(Structural): ...


@schema("index_select(Tensor self, int dim, Tensor index) -> Tensor")
class IndexSelect(Structural): ...


@schema("chunk(Tensor self, int chunks, int dim=0) -> Tensor[]")
class Chunk(Structural): ...


@schema("split.Tensor(Tensor self, SymInt split_size, int dim=0) -> Tensor[]")
class Split(Structural): ...


@schema("split_with_sizes(Tensor self, SymInt[] split_sizes, int dim=0) -> Tensor[]")
class SplitWithSizes(Structural): ...


@schema("split.sizes(Tensor self, SymInt[] split_size, int dim=0) -> Tensor[]")
class SplitSizes(Structural): ...


@schema("unbind.int(Tensor self, int dim=0) -> Tensor[]")
class Unbind(Structural): ...


@schema("cat(Tensor[] tensors, int dim=0) -> Tensor")
class Cat(Structural): ...


@schema("concat(Tensor[] tensors, int dim=0) -> Tensor")
class Concat(Structural): ...


@schema("stack(Tensor[] tensors, int dim=0) -> Tensor")
class Stack(Structural): ...


@schema("flip(Tensor self, int[] dims) -> Tensor")
class Flip(Structural): ...


@schema("roll(Tensor self, SymInt[] shifts, int[] dims=None) -> Tensor")
class Roll(Structural): ...


@schema("contiguous(Tensor self) -> Tensor")
class Contiguous(Structural): ...


@schema("clone(Tensor self) -> Tensor")
class Clone(Structural): ...


@schema("alias(Tensor self) -> Tensor")
class Alias(Structural): ...


@schema("detach(Tensor self) -> Tensor")
class Detach(Structural): ...


@schema("detach_(Tensor self) -> Tensor")
class DetachInplace(Structural): ...


@schema("lift_fresh_copy(Tensor self) -> Tensor")
class LiftFreshCopy(Structural): ...


@schema("dropout(Tensor input, float p, bool train) -> Tensor")
class Dropout(Structural): ...


# ---- elementwise ----


@schema("to.dtype(Tensor self, ScalarType dtype) -> Tensor")
class ToDtype(Elementwise): ...


@schema("to.dtype_layout(Tensor self, ScalarType? dtype=None) -> Tensor")
class ToLayout(Elementwise): ...


@schema("to.device(Tensor self, ScalarType dtype) -> Tensor")
class ToDevice(Elementwise): ...


@schema("_to_copy(Tensor self, ScalarType? dtype=None) -> Tensor")
class ToCopy(Elementwise): ...


@schema("to.other(Tensor self, Tensor other) -> Tensor")
class ToOther(Elementwise): ...


@schema("type_as(Tensor self, Tensor other) -> Tensor")
class TypeAs(Elementwise): ...


@schema("add.Tensor(Tensor self, Tensor other, Scalar alpha=1) -> Tensor")
class Add(Elementwise): ...


@schema("add.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor")
class AddScalar(Elementwise): ...


@schema("sub.Tensor(Tensor self, Tensor other, Scalar alpha=1) -> Tensor")
class Sub(Elementwise): ...


@schema("sub.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor")
class SubScalar(Elementwise): ...


@schema("rsub.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor")
class RsubScalar(Elementwise): ...


@schema("rsub.Tensor(Tensor self, Tensor other, Scalar alpha=1) -> Tensor")
class Rsub(Elementwise): ...


@schema("mul.Tensor(Tensor self, Tensor other) -> Tensor")
class Mul(Elementwise): ...


@schema("mul.Scalar(Tensor self, Scalar other) -> Tensor")
class MulScalar(Elementwise): ...


@schema("div.Tensor(Tensor self, Tensor other) -> Tensor")
class Div(Elementwise): ...


@schema("div.Scalar(Tensor self, Scalar other) -> Tensor")
class DivScalar(Elementwise): ...


@schema("true_divide.Tensor(Tensor self, Tensor other) -> Tensor")
class TrueDivide(Elementwise): ...


@schema("div.Tensor_mode(Tensor self, Tensor other, str? rounding_mode=None) -> Tensor")
class DivMode(Elementwise): ...


@schema("floor_divide(Tensor self, Tensor other) -> Tensor")
class FloorDivide(Elementwise): ...


@schema("floor_divide.Scalar(Tensor self, Scalar other) -> Tensor")
class FloorDivideScalar(Elementwise): ...


@schema("remainder.Scalar(Tensor self, Scalar other) -> Tensor")
class RemainderScalar(Elementwise): ...


@schema("remainder.Tensor(Tensor self, Tensor other) -> Tensor")
class Remainder(Elementwise): ...


@schema("pow.Tensor_Scalar(Tensor self, Scalar exponent) -> Tensor")
class PowScalar(Elementwise): ...


@schema("pow.Tensor_Tensor(Tensor self, Tensor exponent) -> Tensor")
class PowTensor(Elementwise): ...


@schema("pow.Scalar(Scalar self, Tensor exponent) -> Tensor")
class PowOfScalar(Elementwise): ...


@schema("maximum(Tensor self, Tensor other) -> Tensor")
class Maximum(Elementwise): ...


@schema("minimum(Tensor self, Tensor other) -> Tensor")
class Minimum(Elementwise): ...


@schema("min.other(Tensor self, Tensor other) -> Tensor")
class MinOther(Elementwise): ...


@schema("max.other(Tensor self, Tensor other) -> Tensor")
class MaxOther(Elementwise): ...


@schema("clamp(Tensor self, Scalar? min=None, Scalar? max=None) -> Tensor")
class Clamp(Elementwise): ...


@schema("clip(Tensor self, Scalar? min=None, Scalar? max=None) -> Tensor")
class Clip(Elementwise): ...


@schema("hardswish(Tensor self) -> Tensor")
class Hardswish(Elementwise): ...


@schema("clamp_min(Tensor self, Scalar min) -> Tensor")
class ClampMin(Elementwise): ...


@schema("clamp_max(Tensor self, Scalar max) -> Tensor")
class ClampMax(Elementwise): ...


@schema("neg(Tensor self) -> Tensor")
class Neg(Elementwise): ...


@schema("abs(Tensor self) -> Tensor")
class Abs(Elementwise): ...


@schema("sign(Tensor self) -> Tensor")
class Sign(Elementwise): ...


@schema("square(Tensor self) -> Tensor")
class Square(Elementwise): ...


@schema("sqrt(Tensor self) -> Tensor")
class Sqrt(Elementwise): ...


@schema("rsqrt(Tensor self) -> Tensor")
class Rsqrt(Elementwise): ...


@schema("reciprocal(Tensor self) -> Tensor")
class Reciprocal(Elementwise): ...


@schema("exp(Tensor self) -> Tensor")
class Exp(Elementwise): ...


@schema("expm1(Tensor self) -> Tensor")
class Expm1(Elementwise): ...


@schema("log(Tensor self) -> Tensor")
class Log(Elementwise): ...


@schema("log1p(Tensor self) -> Tensor")
class Log1p(Elementwise): ...


@schema("log2(Tensor self) -> Tensor")
class Log2(Elementwise): ...


@schema("floor(Tensor self) -> Tensor")
class Floor(Elementwise): ...


@schema("ceil(Tensor self) -> Tensor")
class Ceil(Elementwise): ...


@schema("round(Tensor self) -> Tensor")
class Round(Elementwise): ...


@schema("trunc(Tensor self) -> Tensor")
class Trunc(Elementwise): ...


@schema("cos(Tensor self) -> Tensor")
class Cos(Elementwise): ...


@schema("sin(Tensor self) -> Tensor")
class Sin(Elementwise): ...


@schema("erf(Tensor self) -> Tensor")
class Erf(Elementwise): ...


@schema("tanh(Tensor self) -> Tensor")
class Tanh(Elementwise): ...


@schema("sigmoid(Tensor self) -> Tensor")
class Sigmoid(Elementwise): ...


@schema("log_sigmoid(Tensor self) -> Tensor")
class LogSigmoid(Elementwise): ...


@schema("relu(Tensor self) -> Tensor")
class Relu(Elementwise): ...


@schema("silu(Tensor self) -> Tensor")
class Silu(Elementwise): ...


@schema('gelu(Tensor self, str approximate="none") -> Tensor')
class Gelu(Elementwise): ...


@schema("mish(Tensor self) -> Tensor")
class Mish(Elementwise): ...


@schema("relu6(Tensor self) -> Tensor")
class Relu6(Elementwise): ...


@schema("hardtanh(Tensor self, Scalar min_val=-1, Scalar max_val=1) -> Tensor")
class Hardtanh(Elementwise): ...


@schema("leaky_relu(Tensor self, Scalar negative_slope=0.01) -> Tensor")
class LeakyRelu(Elementwise): ...


@schema("elu(Tensor self, Scalar alpha=1, Scalar scale=1, Scalar input_scale=1) -> Tensor")
class Elu(Elementwise): ...


@schema("softplus(Tensor self, Scalar beta=1, Scalar threshold=20) -> Tensor")
class Softplus(Elementwise): ...


@schema("where.self(Tensor condition, Tensor self, Tensor other) -> Tensor")
class Where(Elementwise): ...


@schema("where.ScalarOther(Tensor condition, Tensor self, Scalar other) -> Tensor")
class WhereScalarOther(Elementwise): ...


@schema("where.ScalarSelf(Tensor condition, Scalar self, Tensor other) -> Tensor")
class WhereScalarSelf(Elementwise): ...


@schema("where.Scalar(Tensor condition, Scalar self, Scalar other) -> Tensor")
class WhereScalar(Elementwise): ...


@schema("masked_fill.Scalar(Tensor self, Tensor mask, Scalar value) -> Tensor")
class MaskedFillScalar(Elementwise): ...


@schema("masked_fill.Tensor(Tensor self, Tensor mask, Tensor value) -> Tensor")
class MaskedFillTensor(Elementwise): ...


@schema("eq.Tensor(Tensor self, Tensor other) -> Tensor")
class Eq(Elementwise): ...


@schema("eq.Scalar(Tensor self, Scalar other) -> Tensor")
class EqScalar(Elementwise): ...


@schema("ne.Tensor(Tensor self, Tensor other) -> Tensor")
class Ne(Elementwise): ...


@schema("ne.Scalar(Tensor self, Scalar other) -> Tensor")
class NeScalar(Elementwise): ...


@schema("lt.Tensor(Tensor self, Tensor other) -> Tensor")
class Lt(Elementwise): ...


@schema("lt.Scalar(Tensor self, Scalar other) -> Tensor")
class LtScalar(Elementwise): ...


@schema("le.Tensor(Tensor self, Tensor other) -> Tensor")
class Le(Elementwise): ...


@schema("le.Scalar(Tensor self, Scalar other) -> Tensor")
class LeScalar(Elementwise): ...


@schema("gt.Tensor(Tensor self, Tensor other) -> Tensor")
class Gt(Elementwise): ...


@schema("gt.Scalar(Tensor self, Scalar other) -> Tensor")
class GtScalar(Elementwise): ...


@schema("ge.Tensor(Tensor self, Tensor other) -> Tensor")
class Ge(Elementwise): ...


@schema("ge.Scalar(Tensor self, Scalar other) -> Tensor")
class GeScalar(Elementwise): ...


@schema("__and__.Tensor(Tensor self, Tensor other) -> Tensor")
class And(Elementwise): ...


@schema("__or__.Tensor(Tensor self, Tensor other) -> Tensor")
class Or(Elementwise): ...


@schema("bitwise_and.Tensor(Tensor self, Tensor other) -> Tensor")
class BitwiseAnd(Elementwise): ...


@schema("bitwise_or.Tensor(Tensor self, Tensor other) -> Tensor")
class BitwiseOr(Elementwise): ...


@schema("bitwise_not(Tensor self) -> Tensor")
class BitwiseNot(Elementwise): ...


@schema("logical_and(Tensor self, Tensor other) -> Tensor")
class LogicalAnd(Elementwise): ...


@schema("logical_or(Tensor self, Tensor other) -> Tensor")
class LogicalOr(Elementwise): ...


@schema("logical_not(Tensor self) -> Tensor")
class LogicalNot(Elementwise): ...


@schema("isnan(Tensor self) -> Tensor")
class Isnan(Elementwise): ...


@schema("isneginf(Tensor self) -> Tensor")
class Isneginf(Elementwise): ...


# ---- along a dimension ----


@schema(
    "sum.dim_IntList(Tensor self, int[]? dim, bool keepdim=False, ScalarType? dtype=None) -> Tensor"
)
class Sum(AtenOp): ...


@schema("mean.dim(Tensor self, int[]? dim, bool keepdim=False, ScalarType? dtype=None) -> Tensor")
class Mean(AtenOp): ...


@schema(
    "var.correction(Tensor self, int[]? dim=None, Scalar? correction=None, "
    "bool keepdim=False) -> Tensor"
)
class Var(AtenOp): ...


@schema("var.dim(Tensor self, int[]? dim, bool unbiased=True, bool keepdim=False) -> Tensor")
class VarDim(AtenOp): ...


@schema("amax(Tensor self, int[] dim=None, bool keepdim=False) -> Tensor")
class Amax(AtenOp): ...


@schema("amin(Tensor self, int[] dim=None, bool keepdim=False) -> Tensor")
class Amin(AtenOp): ...


@schema("all(Tensor self) -> Tensor")
class All(AtenOp): ...


@schema("any(Tensor self) -> Tensor")
class Any(AtenOp): ...


@schema(
    "linalg_vector_norm(Tensor self, Scalar ord=2, int[]? dim=None, bool keepdim=False, "
    "ScalarType? dtype=None) -> Tensor"
)
class LinalgVectorNorm(AtenOp): ...


@schema("norm.ScalarOpt_dim(Tensor self, Scalar? p, int[] dim, bool keepdim=False) -> Tensor")
class Norm(AtenOp): ...


@schema("cumsum(Tensor self, int dim, ScalarType? dtype=None) -> Tensor")
class Cumsum(AtenOp): ...


@schema(
    "diff(Tensor self, int n=1, int dim=-1, Tensor? prepend=None, Tensor? append=None) -> Tensor"
)
class Diff(AtenOp): ...


@schema("softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor")
class Softmax(AtenOp): ...


@schema("_softmax(Tensor self, int dim, bool half_to_float) -> Tensor")
class SoftmaxInternal(AtenOp): ...


@schema("log_softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor")
class LogSoftmax(AtenOp): ...


@schema("tril(Tensor self, int diagonal=0) -> Tensor")
class Tril(AtenOp): ...


@schema("triu(Tensor self, int diagonal=0) -> Tensor")
class Triu(AtenOp): ...


@schema(
    "topk(Tensor self, SymInt k, int dim=-1, bool largest=True, "
    "bool sorted=True) -> (Tensor values, Tensor indices)"
)
class Topk(AtenOp): ...


@schema("sort(Tensor self, int dim=-1, bool descending=False) -> (Tensor values, Tensor indices)")
class Sort(AtenOp): ...


@schema("gather(Tensor self, int dim, Tensor index) -> Tensor")
class Gather(AtenOp): ...


@schema("scatter.value(Tensor self, int dim, Tensor index, Scalar value) -> Tensor")
class ScatterValue(AtenOp): ...


@schema("max.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)")
class MaxDim(AtenOp): ...


@schema("logsumexp(Tensor self, int[] dim, bool keepdim=False) -> Tensor")
class Logsumexp(AtenOp): ...


@schema("index.Tensor(Tensor self, Tensor?[] indices) -> Tensor")
class Index(AtenOp): ...


@schema(
    "layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, "
    "Tensor? bias=None, float eps=1.0e-05) -> Tensor"
)
class LayerNorm(AtenOp): ...


@schema(
    "rms_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, "
    "float? eps=None) -> Tensor"
)
class RmsNorm(AtenOp): ...


# ---- products ----


@schema("embedding(Tensor weight, Tensor indices, SymInt padding_idx=-1) -> Tensor")
class Embedding(AtenOp): ...


@schema("linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor")
class Linear(AtenOp): ...


@schema("matmul(Tensor self, Tensor other) -> Tensor")
class Matmul(AtenOp): ...


@schema("mm(Tensor self, Tensor mat2) -> Tensor")
class Mm(AtenOp): ...


@schema("bmm(Tensor self, Tensor mat2) -> Tensor")
class Bmm(AtenOp): ...


@schema("addmm(Tensor self, Tensor mat1, Tensor mat2, Scalar beta=1, Scalar alpha=1) -> Tensor")
class Addmm(AtenOp): ...


@schema(
    "baddbmm(Tensor self, Tensor batch1, Tensor batch2, Scalar beta=1, Scalar alpha=1) -> Tensor"
)
class Baddbmm(AtenOp): ...


@schema("einsum(str equation, Tensor[] tensors) -> Tensor")
class Einsum(AtenOp): ...


@schema("outer(Tensor self, Tensor vec2) -> Tensor")
class Outer(AtenOp): ...


@schema(
    "conv1d(Tensor input, Tensor weight, Tensor? bias=None, SymInt[] stride=None, "
    "SymInt[] padding=None, SymInt[] dilation=None, SymInt groups=1) -> Tensor"
)
class Conv1d(AtenOp): ...


@schema(
    "scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, "
    "Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False, float? scale=None, "
    "bool enable_gqa=False) -> Tensor"
)
class ScaledDotProductAttention(AtenOp): ...


# ---- the dialect ----


CALLS: dict[str, type[CallOp]] = {
    op.name: op
    for op in tuple(globals().values())
    if isinstance(op, type) and issubclass(op, CallOp) and hasattr(op, "ARGS")
}

Aten = Dialect("aten", [Weight, Derived, Yield, Get, *CALLS.values()], [_schema.DimAttr])
