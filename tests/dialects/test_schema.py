"""Arguments of calls as text: whatever value an argument can have is printed and read back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, TensorType, f16, f32, i1, i64
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError, VerifyException

from sparsecomp.dialects import aten, context
from sparsecomp.dialects.schema import CallOp, Dim, parse_args, to_attribute, to_python

INTEGERS = st.integers(-(2**63), 2**63 - 1)
DIMS = st.builds(Dim, st.integers(-(2**31), 2**31).filter(bool), st.integers(-(2**31), 2**31))
SIZES = INTEGERS | DIMS
FLOATS = st.floats(width=64)
DTYPES = st.sampled_from([f32, f16, i1, i64])

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": INTEGERS,
    "SymInt": SIZES,
    "Scalar": SIZES | FLOATS | st.booleans(),
    "float": FLOATS,
    "bool": st.booleans(),
    "str": st.text(st.characters(codec="ascii", exclude_categories=["Cc"])),
    "ScalarType": DTYPES,
}
CALLS = st.sampled_from(sorted(aten.CALLS.values(), key=lambda op: op.name))
TENSOR = TensorType(f32, [1, DYNAMIC_INDEX, 4])


@st.composite
def modules(draw: st.DrawFn, calls: st.SearchStrategy[type[CallOp]] = CALLS) -> ModuleOp:
    """A function with one call of random arguments."""
    cls = draw(calls)
    block = Block(arg_types=[TENSOR] * 3)
    tensors = st.sampled_from(block.args)
    values: dict[str, Any] = {}
    for arg in cls.ARGS:
        kind = arg.type.removesuffix("[]").removesuffix("?")
        one = tensors if arg.is_tensor else VALUES[kind]
        if arg.is_list:
            each = one | st.none() if arg.type == "Tensor?[]" else one
            one = st.lists(each, min_size=int(arg.is_tensor), max_size=4)
            if arg.type == "Tensor?[]":
                one = one.filter(any)
        given = not (arg.optional or arg.default is not None) or draw(st.booleans())
        if given:
            values[arg.name] = draw(one)
    call = cls.call(values, [TENSOR] * draw(result_counts(cls)), draw(st.sampled_from(["", "a.0"])))
    block.add_ops([call, ReturnOp()])
    return ModuleOp([FuncOp("f", ([a.type for a in block.args], []), Region(block))])


@dataclass(repr=False)
class Shown:
    """A module that a failing test shows as IR."""

    module: ModuleOp

    def __repr__(self) -> str:
        return str(self.module)


def result_counts(cls: type[CallOp]) -> st.SearchStrategy[int]:
    if cls.RESULTS_ARE_LIST:
        return st.integers(1, 3)
    return st.just(sum(name.startswith("result") for name, _ in cls.get_irdl_definition().results))


def one_call(module: ModuleOp) -> CallOp:
    return next(op for op in module.walk() if isinstance(op, CallOp))


def parse(text: str) -> ModuleOp:
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


def same(a: Any, b: Any) -> bool:
    """Equal, in type too, with nan equal to itself."""
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and a == b


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_calls_are_read_back(data: st.DataObject) -> None:
    module = data.draw(modules().map(Shown)).module
    module.verify()
    text = str(module)
    again = parse(text)
    assert str(again) == text
    before, after = one_call(module), one_call(again)
    for arg in before.ARGS:
        if not arg.is_tensor:
            assert same(before.arg(arg.name), after.arg(arg.name)), arg.name
    assert before.properties.keys() == after.properties.keys()


@given(st.recursive(SIZES | FLOATS | st.booleans() | st.text(), lambda v: st.lists(v, max_size=3)))
def test_values_and_attributes(value: Any) -> None:
    assert same(value, to_python(to_attribute(value)))


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (Dim(1), "s"),
        (Dim(1, -1), "s - 1"),
        (Dim(2, 3), "2 s + 3"),
        (Dim(-1, 1), "-1 s + 1"),
    ],
)
def test_sizes_as_text(dim: Dim, text: str) -> None:
    assert str(dim) == text
    assert dim.at(7) == dim.scale * 7 + dim.offset
    module = parse(f"%0 = aten.zeros(size = [{text}, 4]) : () -> tensor<?x4xf32>")
    assert one_call(module).arg("size") == [dim, 4]


def test_defaults_are_not_printed() -> None:
    module = parse(
        "%0 = aten.arange.start_step(start = 0, end = s, step = 1) : () -> tensor<?xi64>"
    )
    assert "step =" not in str(module)
    assert one_call(module).arg("step") == 1


def test_schema_lines() -> None:
    args = parse_args('Tensor self, *, int[]? dim=None, float eps=1.0e-05, str mode="none"')
    assert [(a.name, a.type, a.optional, a.default_value) for a in args] == [
        ("self", "Tensor", False, None),
        ("dim", "int[]", True, None),
        ("eps", "float", False, 1e-05),
        ("mode", "str", False, "none"),
    ]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("aten.neg(%x, dim = 1) : (tensor<4xf32>)", "aten.neg takes no such argument here"),
        ("aten.neg(%x, %x) : (tensor<4xf32>, tensor<4xf32>)", "takes no such argument here"),
        ("aten.add.Tensor(%x) : (tensor<4xf32>)", "aten.add.Tensor needs other"),
        ("aten.add.Tensor(%x, %x) : (tensor<4xf32>)", "fewer operand types than operands"),
        ("aten.cat([%x], dim = one) : (tensor<4xf32>)", "expected a size"),
        ("aten.neg(%x) : (tensor<5xf32>)", "%x"),
    ],
)
def test_wrong_calls_are_refused(call: str, reason: str) -> None:
    text = f"""func.func @f(%x: tensor<4xf32>) {{
      %0 = {call} -> tensor<4xf32>
      func.return
    }}"""
    with pytest.raises(ParseError) as refusal:
        parse(text)
    assert reason in str(refusal.value)


def test_missing_argument_is_refused() -> None:
    block = Block(arg_types=[TENSOR])
    op = aten.Permute.call({"self": block.args[0]}, [TENSOR])
    block.add_op(op)
    with pytest.raises(VerifyException, match="dims"):
        op.verify()
