"""Every expression of a map against torch: all of them in one library, over a grid."""

from __future__ import annotations

import ctypes
import itertools
import subprocess
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import TensorType, bf16, f32, i1, i64
from xdsl.ir import Attribute, Block

from sparsecomp.codegen.scalar import EXPRESSIONS, expression, number
from sparsecomp.dialects import aten
from sparsecomp.errors import SparsecompError
from sparsecomp.reference.evaluate import torch_dtype

EDGES = (-0.0, 0.0, 1e-30, -1e-8, 0.5, 1.5, 2.5, -0.5, 30.0, 88.0, -88.0, -200.0, 1e30)
AXIS = np.array([*np.linspace(-5, 5, 41), *EDGES], np.float32)
GRID = np.array(list(itertools.product(AXIS, AXIS)), np.float32).T
A, B = (np.ascontiguousarray(x) for x in GRID)
C = np.float32(-1.25) * A + np.float32(0.5)
"""Three operands."""

Op = type[aten.AtenOp]


QUOTIENTS = (
    aten.FloorDivide,
    aten.FloorDivideScalar,
    aten.Remainder,
    aten.RemainderScalar,
    aten.DivMode,
)


@dataclass(frozen=True)
class Case:
    """An op, its arguments that are no tensors, and which of its operands are truths."""

    op: Op
    given: dict[str, Any]
    truths: tuple[int, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.op.name, *(f"{k}={v}" for k, v in self.given.items())])

    def call(self) -> tuple[aten.AtenOp, list[str]]:
        """The op on tensors of no dimensions, and the names of its operands."""
        scalar = TensorType(f32, [])
        block = Block(arg_types=[scalar] * 3)
        free = iter(block.args)
        tensors = {
            arg.name: next(free)
            for arg in self.op.ARGS
            if arg.is_tensor and arg.name not in self.given
        }
        op = self.op.call(tensors | self.given, [scalar])
        assert isinstance(op, aten.AtenOp)
        return op, ["a", "b", "c"][: len(tensors)]

    def torch(self) -> torch.Tensor:
        name, _, overload = self.op.name.removeprefix("aten.").partition(".")
        function = getattr(getattr(torch.ops.aten, name), overload or "default")
        given = {
            k: torch_dtype(v) if isinstance(v, Attribute) else v for k, v in self.given.items()
        }
        free = iter(
            torch.from_numpy(x) != 0 if i in self.truths else torch.from_numpy(x)
            for i, x in enumerate((A, B, C))
        )
        for arg in self.op.ARGS:
            if arg.is_tensor and arg.name not in given:
                given[arg.name] = next(free)
        if self.op is aten.MaskedFillTensor:  # it takes one value: element by element here
            return torch.where(given["mask"], given["value"], given["self"])
        return function(**given).float()


CASES = [
    *(
        Case(op, {})
        for op in (
            aten.Mul, aten.Div, aten.FloorDivide, aten.Remainder, aten.PowTensor, aten.Maximum,
            aten.Minimum, aten.Neg, aten.Abs, aten.Sign, aten.Sqrt, aten.Rsqrt, aten.Reciprocal,
            aten.Exp, aten.Expm1, aten.Log, aten.Log1p, aten.Log2, aten.Floor, aten.Ceil,
            aten.Round, aten.Trunc, aten.Cos, aten.Sin, aten.Erf, aten.Tanh, aten.Sigmoid,
            aten.LogSigmoid, aten.Relu, aten.Relu6, aten.Silu, aten.Hardswish, aten.Mish, aten.Eq,
            aten.Ne, aten.Lt, aten.Le, aten.Gt, aten.Ge, aten.Isnan, aten.Isneginf,
        )
    ),
    *(
        Case(op, {"other": 1.5})
        for op in (
            aten.MulScalar, aten.DivScalar, aten.FloorDivideScalar, aten.RemainderScalar,
            aten.EqScalar, aten.NeScalar, aten.LtScalar, aten.LeScalar, aten.GtScalar,
            aten.GeScalar,
        )
    ),
    *(Case(op, {"alpha": alpha}) for op in (aten.Add, aten.Sub, aten.Rsub) for alpha in (1, 0.5)),
    *(
        Case(op, {"other": -2.0, "alpha": alpha})
        for op in (aten.AddScalar, aten.SubScalar, aten.RsubScalar)
        for alpha in (1, 0.5)
    ),
    *(Case(aten.DivMode, {"rounding_mode": mode}) for mode in (None, "floor", "trunc")),
    *(Case(aten.PowScalar, {"exponent": e}) for e in (2, 3, 0.5, -0.5, -1, 1.7)),
    Case(aten.PowOfScalar, {"self": 2.0}),
    Case(aten.Clamp, {"min": -1.0, "max": 2.0}),
    Case(aten.Clamp, {"min": 0.5}),
    Case(aten.Clamp, {"max": 0.5}),
    Case(aten.Hardtanh, {"min_val": -2.0, "max_val": 3.0}),
    Case(aten.LeakyRelu, {"negative_slope": 0.1}),
    Case(aten.Elu, {"alpha": 1.5, "scale": 2.0, "input_scale": 0.5}),
    Case(aten.Softplus, {"beta": 2.0, "threshold": 20.0}),
    Case(aten.Gelu, {"approximate": "none"}),
    Case(aten.Gelu, {"approximate": "tanh"}),
    Case(aten.And, {}, (0, 1)),
    Case(aten.Or, {}, (0, 1)),
    Case(aten.BitwiseNot, {}, (0,)),
    Case(aten.LogicalNot, {}),
    Case(aten.Where, {}, (0,)),
    Case(aten.WhereScalarOther, {"other": 3.0}, (0,)),
    Case(aten.WhereScalarSelf, {"self": 3.0}, (0,)),
    Case(aten.WhereScalar, {"self": 3.0, "other": -4.0}, (0,)),
    Case(aten.MaskedFillScalar, {"value": -torch.inf}, (1,)),
    Case(aten.MaskedFillScalar, {"value": float(np.finfo(np.float32).min)}, (1,)),
    Case(aten.MaskedFillTensor, {}, (1,)),
    Case(aten.ToDtype, {"dtype": bf16}),
    Case(aten.ToDtype, {"dtype": i1}),
    Case(aten.ToDtype, {"dtype": i64}),
]  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("scalar")
    functions = []
    for i, case in enumerate(CASES):
        op, names = case.call()
        functions.append(
            f'extern "C" void f{i}(const float* as, const float* bs, const float* cs, float* y,'
            " long n) {\n"
            "    for (long i = 0; i < n; ++i) {\n"
            "        [[maybe_unused]] const float a = as[i], b = bs[i], c = cs[i];\n"
            f"        y[i] = {expression(op, names, '')};\n    }}\n}}\n"
        )
    file, output = folder / "scalar.cpp", folder / "scalar.so"
    file.write_text("#include <cmath>\n" + "".join(functions))
    flags = ["-std=c++17", "-O1", "-fno-math-errno", "-Wall", "-Wextra", "-Werror", "-shared"]
    done = subprocess.run(
        ["c++", *flags, "-fPIC", str(file), "-o", str(output)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(output))


@pytest.mark.parametrize("index", range(len(CASES)), ids=[str(case) for case in CASES])
def test_expression(library: ctypes.CDLL, index: int) -> None:
    case = CASES[index]
    actual = np.empty_like(A)
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in (A, B, C, actual)]
    getattr(library, f"f{index}")(*pointers, ctypes.c_long(A.size))
    expected = case.torch().numpy()
    if case.op is aten.ToDtype:
        # Narrower floats are not rounded, integers are as large as floats.
        expected = {bf16: A, i1: (A != 0), i64: np.trunc(A)}[case.given["dtype"]]
    near = slice(None)
    if case.op in QUOTIENTS:  # beyond these a rounded quotient is another whole number
        near = (np.abs(A) <= 5) & (np.abs(B) <= 5) & (np.abs(A) >= 0.25) & (np.abs(B) >= 0.25)
    np.testing.assert_allclose(actual[near], expected[near], rtol=2e-6, atol=1e-6)


def test_every_expression_is_here() -> None:
    assert {case.op for case in CASES} == set(EXPRESSIONS)


@given(st.floats(width=32))
def test_numbers_are_exact(value: float) -> None:
    text = number(value)
    special = {"NAN": "nan", "INFINITY": "inf", "-INFINITY": "-inf"}
    read = np.float32(special.get(text, text.removesuffix("f")))
    np.testing.assert_array_equal(read, np.float32(value))


def test_beyond_the_largest_float() -> None:
    assert number(-1e300) == number(float(np.finfo(np.float32).min))


def test_an_op_without_expression() -> None:
    op = aten.Square.call({"self": Block(arg_types=[TensorType(f32, [])]).args[0]}, [
        TensorType(f32, [])
    ])  # fmt: skip
    with pytest.raises(SparsecompError, match=r"aten\.square in model\.mlp: has no native kernel"):
        expression(op, ["a"], "model.mlp")
