"""What the compiler makes of kernels, and which ops it has none for."""

from __future__ import annotations

from pathlib import Path

import pytest
import triton
from triton_support import Program, kernels, scope_of

from sparsecomp.codegen.triton import build
from sparsecomp.codegen.triton.select import Kernel, calls
from sparsecomp.dialects import exec
from sparsecomp.errors import SparsecompError

KERNEL = Kernel(
    "last", ("*i32:16", "*fp32:16", "*fp32"), (("WIDTH", 40), ("X_STRIDE", 40), ("BLOCK", 64)), 2
)


def test_the_same_kernel_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.compilation, "always_compile", True)
    first, second = (build.cubin(KERNEL, 90) for _ in range(2))
    assert first == second
    assert (first.entry, first.warps) == ("last", 2)
    assert str(Path(build.__file__).parent).encode() not in first.code


def test_ptx_runs_on_all_later_gpus() -> None:
    text = build.ptx(KERNEL).code.decode()
    assert ".target sm_80\n" in text and ".visible .entry last(" in text
    # Its pointers, then the two that all of Triton's kernels have.
    assert text.count(".param .u64") == len(KERNEL.pointers) + 2


def test_an_op_without_kernel() -> None:
    program = Program()
    program.kernel(exec.TopK, program.buffer(1, 8), program.buffer(1, 2, 2))
    (op,) = kernels(program.module)
    with pytest.raises(SparsecompError, match=r"exec\.top_k: has no CUDA kernel; a program for"):
        calls(op, scope_of(program.module))
