"""Calls that compute each element by itself."""

from __future__ import annotations

from .operation import Elementwise, schema


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
