"""ATen on scalars, in Triton: what the body of a map may hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from xdsl.dialects.builtin import IntegerType
from xdsl.ir import Operation

from sparsecomp.dialects import aten
from sparsecomp.dialects.schema import CallOp
from sparsecomp.errors import SparsecompError

LARGEST = 3.4028234663852886e38
LEAST = 2.0**-126
"""The least number that is not rounded to 0."""

Emit = Callable[[CallOp, Sequence[str]], str]


def number(value: float | bool) -> str:
    """A literal of this value as an f32."""
    if math.isnan(value) or math.isinf(value):
        return f'float("{float(value)}")'
    # Finite, but beyond what a float holds: the largest float keeps its meaning ("forbidden").
    value = max(-LARGEST, min(LARGEST, float(value)))
    return f"({value!r})" if abs(value) >= LEAST else "0.0"


def _binary(pattern: str) -> Emit:
    return lambda op, args: pattern.format(*args)


def _truth(condition: str) -> Emit:
    """A condition as a float."""
    return lambda op, args: f"({condition.format(*args)}).to(tl.float32)"


def _scalar(pattern: str) -> Emit:
    """A pattern whose `{c}` is the number argument `other`."""
    return lambda op, args: pattern.format(*args, c=number(op.arg("other")))


def _compare(sign: str) -> Emit:
    return _scalar(f"({{}} {sign} {{c}}).to(tl.float32)")


def _add(sign: str) -> Emit:
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
    return f"({args[0]} != 0).to(tl.float32)" if dtype.width.data == 1 else f"trunc({args[0]})"


ROUNDINGS = {None: "{}", "floor": "tl.floor({})", "trunc": "trunc({})"}


def _elu(op: CallOp, args: Sequence[str]) -> str:
    x, scale = args[0], number(op.arg("scale"))
    low = f"{number(op.arg('alpha'))} * expm1({x} * {number(op.arg('input_scale'))})"
    return f"{scale} * tl.where({x} > 0, {x}, {low})"


def _clamp(op: CallOp, args: Sequence[str]) -> str:
    text = args[0]
    if op.arg("min") is not None:
        text = f"tl.maximum({text}, {number(op.arg('min'))})"
    if op.arg("max") is not None:
        text = f"tl.minimum({text}, {number(op.arg('max'))})"
    return text


def _pow(op: CallOp, args: Sequence[str]) -> str:
    exponent = op.arg("exponent")
    match exponent:
        case 2:
            return f"{args[0]} * {args[0]}"
        case 3:
            return f"{args[0]} * {args[0]} * {args[0]}"
        case 0.5:
            return f"tl.sqrt({args[0]})"
        case -0.5:
            return f"1 / tl.sqrt({args[0]})"
        case _:
            return f"power({args[0]}, {args[0]} * 0 + {number(exponent)})"


def _softplus(op: CallOp, args: Sequence[str]) -> str:
    x, beta = args[0], number(op.arg("beta"))
    soft = f"log1p(tl.exp({x} * {beta})) / {beta}"
    return f"tl.where({x} * {beta} > {number(op.arg('threshold'))}, {x}, {soft})"


def _gelu(op: CallOp, args: Sequence[str]) -> str:
    return f"gelu_{'tanh' if op.arg('approximate') == 'tanh' else 'erf'}({args[0]})"


def _where(op: CallOp, args: Sequence[str]) -> str:
    given = iter(args)
    values = [next(given) if arg.is_tensor else number(op.arg(arg.name)) for arg in op.ARGS]
    return f"tl.where({values[0]} != 0, {values[1]}, {values[2]})"


EXPRESSIONS: dict[type[Operation], Emit] = {
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
    aten.FloorDivide: _binary("tl.floor({} / {})"),
    aten.FloorDivideScalar: _scalar("tl.floor({} / {c})"),
    aten.Remainder: _binary("{0} - {1} * tl.floor({0} / {1})"),
    aten.RemainderScalar: _scalar("{0} - {c} * tl.floor({0} / {c})"),
    aten.PowScalar: _pow,
    aten.PowTensor: _binary("power({}, {})"),
    aten.PowOfScalar: lambda op, a: f"power({a[0]} * 0 + {number(op.arg('self'))}, {a[0]})",
    aten.Maximum: _binary("tl.maximum({}, {})"),
    aten.Minimum: _binary("tl.minimum({}, {})"),
    aten.Clamp: _clamp,
    aten.Neg: _binary("-{}"),
    aten.Abs: _binary("tl.abs({})"),
    aten.Sign: _binary("({0} > 0).to(tl.float32) - ({0} < 0).to(tl.float32)"),
    aten.Sqrt: _binary("tl.sqrt({})"),
    aten.Rsqrt: _binary("1 / tl.sqrt({})"),
    aten.Reciprocal: _binary("1 / {}"),
    aten.Exp: _binary("tl.exp({})"),
    aten.Expm1: _binary("expm1({})"),
    aten.Log: _binary("tl.log({})"),
    aten.Log1p: _binary("log1p({})"),
    aten.Log2: _binary("tl.log2({})"),
    aten.Floor: _binary("tl.floor({})"),
    aten.Ceil: _binary("tl.ceil({})"),
    aten.Round: _binary("nearest({})"),
    aten.Trunc: _binary("trunc({})"),
    aten.Cos: _binary("tl.cos({})"),
    aten.Sin: _binary("tl.sin({})"),
    aten.Erf: _binary("tl.erf({})"),
    aten.Tanh: _binary("tanh({})"),
    aten.Sigmoid: _binary("sigmoid({})"),
    aten.LogSigmoid: _binary("tl.minimum({0}, 0.0) - log1p(tl.exp(-tl.abs({0})))"),
    aten.BitwiseNot: _truth("{} == 0"),
    aten.MaskedFillScalar: lambda op, a: (
        f"tl.where({a[1]} != 0, {number(op.arg('value'))}, {a[0]})"
    ),
    aten.MaskedFillTensor: _binary("tl.where({1} != 0, {2}, {0})"),
    aten.Relu: _binary("tl.maximum({}, 0.0)"),
    aten.Relu6: _binary("tl.minimum(tl.maximum({}, 0.0), 6.0)"),
    aten.Hardtanh: lambda op, a: (
        f"tl.minimum(tl.maximum({a[0]}, {number(op.arg('min_val'))}), {number(op.arg('max_val'))})"
    ),
    aten.LeakyRelu: lambda op, a: (
        f"tl.where({a[0]} > 0, {a[0]}, {a[0]} * {number(op.arg('negative_slope'))})"
    ),
    aten.Elu: _elu,
    aten.Mish: _binary("{0} * tanh(tl.where({0} > 20, {0}, log1p(tl.exp({0}))))"),
    aten.Hardswish: _binary("{0} * tl.minimum(tl.maximum({0} + 3, 0.0), 6.0) / 6"),
    aten.Silu: _binary("{0} * sigmoid({0})"),
    aten.Gelu: _gelu,
    aten.Softplus: _softplus,
    aten.Where: _where,
    aten.WhereScalarOther: _where,
    aten.WhereScalarSelf: _where,
    aten.WhereScalar: _where,
    aten.Eq: _truth("{} == {}"),
    aten.EqScalar: _compare("=="),
    aten.Ne: _truth("{} != {}"),
    aten.NeScalar: _compare("!="),
    aten.Lt: _truth("{} < {}"),
    aten.LtScalar: _compare("<"),
    aten.Le: _truth("{} <= {}"),
    aten.LeScalar: _compare("<="),
    aten.Gt: _truth("{} > {}"),
    aten.GtScalar: _compare(">"),
    aten.Ge: _truth("{} >= {}"),
    aten.GeScalar: _compare(">="),
    aten.And: _truth("({} != 0) & ({} != 0)"),
    aten.Or: _truth("({} != 0) | ({} != 0)"),
    aten.LogicalNot: _truth("{} == 0"),
    aten.Isnan: _truth("{0} != {0}"),
    aten.Isneginf: _truth('{} == -float("inf")'),
    aten.ToDtype: _cast,
}
"""Operands are names, and what is looked up without `tl.` stands in kernels/scalars.py."""


def expression(op: Operation, args: Sequence[str], where: str) -> str:
    """The expression of an op on these names. Raises SparsecompError naming op and module."""
    emit = EXPRESSIONS.get(type(op))
    if emit is None or not isinstance(op, CallOp):
        place = f" in {where}" if where else ""
        raise SparsecompError(f"{op.name}{place}: has no CUDA kernel")
    return emit(op, args)
