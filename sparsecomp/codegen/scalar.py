"""ATen on scalars, in C++: what the body of a map may hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from xdsl.dialects.builtin import IntegerType
from xdsl.ir import Operation

from sparsecomp.dialects import aten
from sparsecomp.dialects.schema import CallOp
from sparsecomp.errors import SparsecompError


def number(value: float | bool) -> str:
    """A C++ float literal of exactly this value, rounded to f32."""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    # Finite, but beyond what a float holds: the largest float keeps its meaning ("forbidden").
    value = max(-3.4028234663852886e38, min(3.4028234663852886e38, float(value)))
    return f"{value!r}f"


def _binary(pattern: str) -> Callable[[CallOp, Sequence[str]], str]:
    return lambda op, args: pattern.format(*args)


def _scalar(pattern: str) -> Callable[[CallOp, Sequence[str]], str]:
    """A pattern whose `{c}` is the number argument `other` or `exponent`."""
    return lambda op, args: pattern.format(
        *args, c=number(op.arg("other" if "other" in _names(op) else "exponent"))
    )


def _names(op: CallOp) -> list[str]:
    return [a.name for a in op.ARGS]


def _add(sign: str) -> Callable[[CallOp, Sequence[str]], str]:
    def emit(op: CallOp, args: Sequence[str]) -> str:
        other = args[1] if len(args) > 1 else number(op.arg("other"))
        alpha = op.arg("alpha")
        return f"{args[0]} {sign} {other}" + ("" if alpha == 1 else f" * {number(alpha)}")

    return emit


def _cast(op: CallOp, args: Sequence[str]) -> str:
    """Values are floats here, whatever their type was: a cast keeps what the new type can hold."""
    dtype = op.arg("dtype")
    if not isinstance(dtype, IntegerType):
        return args[0]
    return f"float({args[0]} != 0.0f)" if dtype.width.data == 1 else f"std::trunc({args[0]})"


ROUNDINGS = {None: "{}", "floor": "std::floor({})", "trunc": "std::trunc({})"}


def _elu(op: CallOp, args: Sequence[str]) -> str:
    x, scale = args[0], number(op.arg("scale"))
    low = f"{number(op.arg('alpha'))} * std::expm1({x} * {number(op.arg('input_scale'))})"
    return f"{scale} * ({x} > 0.0f ? {x} : {low})"


def _clamp(op: CallOp, args: Sequence[str]) -> str:
    text = args[0]
    if op.arg("min") is not None:
        text = f"std::fmax({text}, {number(op.arg('min'))})"
    if op.arg("max") is not None:
        text = f"std::fmin({text}, {number(op.arg('max'))})"
    return text


def _pow(op: CallOp, args: Sequence[str]) -> str:
    exponent = op.arg("exponent")
    match exponent:
        case 2:
            return f"{args[0]} * {args[0]}"
        case 3:
            return f"{args[0]} * {args[0]} * {args[0]}"
        case 0.5:
            return f"std::sqrt({args[0]})"
        case -0.5:
            return f"1.0f / std::sqrt({args[0]})"
        case _:
            return f"std::pow({args[0]}, {number(exponent)})"


def _softplus(op: CallOp, args: Sequence[str]) -> str:
    x, beta = args[0], number(op.arg("beta"))
    soft = f"std::log1p(std::exp({x} * {beta})) / {beta}"
    return f"{x} * {beta} > {number(op.arg('threshold'))} ? {x} : {soft}"


def _gelu(op: CallOp, args: Sequence[str]) -> str:
    x = args[0]
    if op.arg("approximate") == "tanh":
        inner = f"0.7978845608028654f * ({x} + 0.044715f * {x} * {x} * {x})"
        return f"0.5f * {x} * (1.0f + std::tanh({inner}))"
    return f"0.5f * {x} * (1.0f + std::erf({x} * 0.7071067811865476f))"


def _where(op: CallOp, args: Sequence[str]) -> str:
    given = iter(args)
    values = [next(given) if arg.is_tensor else number(op.arg(arg.name)) for arg in op.ARGS]
    return f"{values[0]} != 0.0f ? {values[1]} : {values[2]}"


EXPRESSIONS: dict[type[Operation], Callable[[CallOp, Sequence[str]], str]] = {
    aten.Add: _add("+"),
    aten.AddScalar: _add("+"),
    aten.Sub: _add("-"),
    aten.SubScalar: _add("-"),
    aten.RsubScalar: lambda op, a: (
        f"{number(op.arg('other'))} - {a[0]} * {number(op.arg('alpha'))}"
    ),
    aten.Mul: _binary("{} * {}"),
    aten.MulScalar: _scalar("{} * {c}"),
    aten.Rsub: lambda op, a: f"{a[1]} - {a[0]} * {number(op.arg('alpha'))}",
    aten.Div: _binary("{} / {}"),
    aten.DivScalar: _scalar("{} / {c}"),
    aten.DivMode: lambda op, a: ROUNDINGS[op.arg("rounding_mode")].format(f"{a[0]} / {a[1]}"),
    aten.FloorDivide: _binary("std::floor({} / {})"),
    aten.FloorDivideScalar: _scalar("std::floor({} / {c})"),
    aten.Remainder: _binary("{0} - {1} * std::floor({0} / {1})"),
    aten.RemainderScalar: _scalar("{0} - {c} * std::floor({0} / {c})"),
    aten.PowScalar: _pow,
    aten.PowTensor: _binary("std::pow({}, {})"),
    aten.PowOfScalar: lambda op, a: f"std::pow({number(op.arg('self'))}, {a[0]})",
    aten.Maximum: _binary("std::fmax({}, {})"),
    aten.Minimum: _binary("std::fmin({}, {})"),
    aten.Clamp: _clamp,
    aten.Neg: _binary("-{}"),
    aten.Abs: _binary("std::fabs({})"),
    aten.Sign: _binary("float({0} > 0.0f) - float({0} < 0.0f)"),
    aten.Sqrt: _binary("std::sqrt({})"),
    aten.Rsqrt: _binary("1.0f / std::sqrt({})"),
    aten.Reciprocal: _binary("1.0f / {}"),
    aten.Exp: _binary("std::exp({})"),
    aten.Expm1: _binary("std::expm1({})"),
    aten.Log: _binary("std::log({})"),
    aten.Log1p: _binary("std::log1p({})"),
    aten.Log2: _binary("std::log2({})"),
    aten.Floor: _binary("std::floor({})"),
    aten.Ceil: _binary("std::ceil({})"),
    aten.Round: _binary("std::nearbyint({})"),
    aten.Trunc: _binary("std::trunc({})"),
    aten.Cos: _binary("std::cos({})"),
    aten.Sin: _binary("std::sin({})"),
    aten.Erf: _binary("std::erf({})"),
    aten.Tanh: _binary("std::tanh({})"),
    aten.Sigmoid: _binary("1.0f / (1.0f + std::exp(-{}))"),
    aten.LogSigmoid: _binary("-std::log1p(std::exp(-std::fabs({0}))) + std::fmin({0}, 0.0f)"),
    aten.BitwiseNot: _binary("float({} == 0.0f)"),
    aten.MaskedFillScalar: lambda op, a: f"{a[1]} != 0.0f ? {number(op.arg('value'))} : {a[0]}",
    aten.MaskedFillTensor: _binary("{1} != 0.0f ? {2} : {0}"),
    aten.Relu: _binary("std::fmax({}, 0.0f)"),
    aten.Relu6: _binary("std::fmin(std::fmax({}, 0.0f), 6.0f)"),
    aten.Hardtanh: lambda op, a: (
        f"std::fmin(std::fmax({a[0]}, {number(op.arg('min_val'))}), {number(op.arg('max_val'))})"
    ),
    aten.LeakyRelu: lambda op, a: (
        f"{a[0]} > 0.0f ? {a[0]} : {a[0]} * {number(op.arg('negative_slope'))}"
    ),
    aten.Elu: _elu,
    aten.Mish: _binary("{0} * std::tanh({0} > 20.0f ? {0} : std::log1p(std::exp({0})))"),
    aten.Hardswish: _binary("{0} * std::fmin(std::fmax({0} + 3.0f, 0.0f), 6.0f) / 6.0f"),
    aten.Silu: _binary("{0} / (1.0f + std::exp(-{0}))"),
    aten.Gelu: _gelu,
    aten.Softplus: _softplus,
    aten.Where: _where,
    aten.WhereScalarOther: _where,
    aten.WhereScalarSelf: _where,
    aten.WhereScalar: _where,
    aten.Eq: _binary("float({} == {})"),
    aten.EqScalar: _scalar("float({} == {c})"),
    aten.Ne: _binary("float({} != {})"),
    aten.NeScalar: _scalar("float({} != {c})"),
    aten.Lt: _binary("float({} < {})"),
    aten.LtScalar: _scalar("float({} < {c})"),
    aten.Le: _binary("float({} <= {})"),
    aten.LeScalar: _scalar("float({} <= {c})"),
    aten.Gt: _binary("float({} > {})"),
    aten.GtScalar: _scalar("float({} > {c})"),
    aten.Ge: _binary("float({} >= {})"),
    aten.GeScalar: _scalar("float({} >= {c})"),
    aten.And: _binary("float({} != 0.0f && {} != 0.0f)"),
    aten.Or: _binary("float({} != 0.0f || {} != 0.0f)"),
    aten.LogicalNot: _binary("float({} == 0.0f)"),
    aten.Isnan: _binary("float(std::isnan({}))"),
    aten.Isneginf: _binary("float({} == -INFINITY)"),
    aten.ToDtype: _cast,
}


def expression(op: Operation, args: Sequence[str], where: str) -> str:
    """The C++ expression of an op on these names. Raises SparsecompError naming op and module."""
    emit = EXPRESSIONS.get(type(op))
    if emit is None or not isinstance(op, CallOp):
        place = f" in {where}" if where else ""
        raise SparsecompError(f"{op.name}{place}: has no native kernel")
    return emit(op, args)
