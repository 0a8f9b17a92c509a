"""Maps in Triton: the text of their functions, and every expression against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_scalar import CASES, QUOTIENTS, A, B, C
from triton_interpreter import run
from triton_support import begin, check, kernels
from xdsl.dialects.builtin import bf16, i1, i64

from sparsecomp.codegen.triton.call import Call, Kernel
from sparsecomp.codegen.triton.scalar import EXPRESSIONS, expression
from sparsecomp.codegen.triton.select import Scope, calls
from sparsecomp.dialects import aten
from sparsecomp.opt import parse

TEXT = """
exec.storage @scale {layout = #exec<layout floats>, element = f32, shape = array<i64: 3, 1>, of = [@a]}
exec.program @prefill attributes {tile = 8 : i64} {
  %0 = exec.buffer : memref<?x21xf32>
  %1 = exec.view %0 {start = 1 : i64, strides = array<i64: 1, 3>} : memref<?x21xf32> -> memref<?x3x5xf32>
  %2 = exec.buffer : memref<?x3x5xf32>
  %3 = exec.constant @scale : memref<3x1xf32>
  exec.map(%1, %3) into %2 : memref<?x3x5xf32>, memref<3x1xf32> into memref<?x3x5xf32> {
  ^bb0(%4: tensor<f32>, %5: tensor<f32>):
    %6 = aten.silu(%4) : (tensor<f32>) -> tensor<f32>
    %7 = aten.mul.Tensor(%6, %5) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    exec.yield %7 : tensor<f32>
  }
}
"""  # noqa: E501
EXPECTED = """@triton.jit
def NAME(state, x0, x1, out, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= rows_of(state):
        return
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < 15
    d0 = at // 5
    d1 = at % 5
    a0 = tl.load(x0 + row * 21 + d0 + d1 * 3, mask=inside, other=0.0)
    a1 = tl.load(x1 + d0, mask=inside, other=0.0)
    v0 = a0 * sigmoid(a0)
    v1 = v0 * a1
    tl.store(out + row * 15 + d0 * 5 + d1, v1, mask=inside)
"""


def test_text() -> None:
    (op,) = kernels(parse(TEXT))
    (call,) = calls(op, Scope({}, 40, 8))
    assert call.kernel.source == EXPECTED.replace("NAME", call.kernel.function)
    assert call.kernel.pointers == ("*i32:16", "*fp32", "*fp32:16", "*fp32:16")
    assert call.grid == (8, 1, 1)


def test_result(tmp_path: Path) -> None:
    check(begin(parse(TEXT), tmp_path, tokens=(1, 2, 3)), given=[torch.randn(3, 21)])


@pytest.fixture(scope="module")
def results() -> np.ndarray:
    """(cases, elements): every expression in one function."""
    lines = []
    for i, case in enumerate(CASES):
        op, names = case.call()
        lines.append(f"tl.store(out + {i} * SIZE + at, {expression(op, names, '')}, mask=inside)")
    head = """@triton.jit
def every_expression(x, out, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    inside = at < SIZE
    a = tl.load(x + at, mask=inside, other=1.0)
    b = tl.load(x + SIZE + at, mask=inside, other=1.0)
    c = tl.load(x + 2 * SIZE + at, mask=inside, other=1.0)
"""
    text = head + "".join(f"    {line}\n" for line in lines)
    out = np.empty((len(CASES), A.size), np.float32)
    constants = (("SIZE", A.size), ("BLOCK", 4096))
    kernel = Kernel("every_expression", ("*fp32", "*fp32"), constants, source=text)
    run([Call(kernel, (), (1, 1, 1))], [[np.stack([A, B, C]), out]])
    return out


@pytest.mark.parametrize("index", range(len(CASES)), ids=[str(case) for case in CASES])
def test_expression(results: np.ndarray, index: int) -> None:
    case = CASES[index]
    expected = case.torch().numpy()
    if case.op is aten.ToDtype:
        expected = {bf16: A, i1: (A != 0), i64: np.trunc(A)}[case.given["dtype"]]
    near = slice(None)
    if case.op in QUOTIENTS:
        near = (np.abs(A) <= 5) & (np.abs(B) <= 5) & (np.abs(A) >= 0.25) & (np.abs(B) >= 0.25)
    np.testing.assert_allclose(results[index][near], expected[near], rtol=1e-5, atol=1e-6)


def test_every_expression_is_here() -> None:
    assert {case.op for case in CASES} == set(EXPRESSIONS)
