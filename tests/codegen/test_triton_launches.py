"""Launches of several kernels: in Triton's interpreter beside the reference, and compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_triton_dense import linear, mlp
from test_triton_sparse import BIG, INT8, MLP, chosen, neurons, sparse_head, sparse_mlp
from triton_support import Program, begin, check, fits, kernels
from xdsl.dialects.builtin import ModuleOp, bf16, f32
from xdsl.ir import Attribute

from sparsecomp.codegen.triton import dense, parts
from sparsecomp.codegen.triton.beside import side_by_side
from sparsecomp.codegen.triton.call import NULL, Argument, Keys, State, Values, call
from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import Layout, NormKind
from sparsecomp.options import Device
from sparsecomp.passes.base import PassContext
from sparsecomp.passes.fuse_linears import FuseLinears
from sparsecomp.passes.fuse_norms import PRODUCTS, FuseNorms
from sparsecomp.passes.streams import each

NORMS = {
    "rms": (NormKind.RMS, True, False),
    "layer": (NormKind.LAYER, True, True),
    "rms without weight": (NormKind.RMS, False, False),
    "layer without weight and bias": (NormKind.LAYER, False, False),
}


@pytest.fixture
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few that each has several blocks to do."""
    for module in (dense, parts):
        monkeypatch.setattr(module, "PROGRAMS", 4)


def fused(module: ModuleOp, name: str = "rms") -> ModuleOp:
    """What is multiplied is normed first, where it is read."""
    program = Program.of(module)
    readers = [op for op in kernels(module) if isinstance(op, PRODUCTS)]
    (x,) = {op.operands[0] for op in readers}
    kind, weight, bias = NORMS[name]
    row, size = program.buffer(*x.type.get_shape()), x.type.get_shape()[-1]
    program.kernel(
        exec.Norm,
        x,
        row,
        kind=exec.NormKindAttr(kind),
        weight=program.floats(size) if weight else None,
        bias=program.floats(size) if bias else None,
        eps=1e-5,
    )
    made = program.block.last_op
    for op in (row.owner, made):
        op.detach()
        program.block.insert_op_before(op, readers[0])
    for op in readers:
        op.operands[0] = row
    context = PassContext(None, None, 0, device=Device.CUDA)  # type: ignore[arg-type]
    for step in (FuseLinears(), FuseNorms()):
        step.apply(module, context)
    assert not any(isinstance(op, exec.Norm) for op in kernels(module))
    return module


def projections(element: Attribute, size: int, outputs: int) -> ModuleOp:
    """Linears of one row: of rows, of columns, of listed blocks."""
    program = Program(element)
    x, (_, found) = program.buffer(1, size), chosen(program, 5)
    linear(program, x, program.buffer(1, outputs), size, outputs)
    linear(program, x, program.buffer(1, size), size, size, x, layout=Layout.COLUMNS)
    rows = 5 * (outputs // 4)
    program.kernel(
        exec.SparseLinear,
        x,
        found,
        program.buffer(1, rows),
        weight=program.weights(Layout.ROWS, rows, size),
        bias=program.floats(rows),
        side=spz.SideAttr(spz.Side.OUTPUTS),
        blocks=5,
        density=0.5,
        part=MLP,
    )
    return program.module


@pytest.mark.parametrize(
    ("element", "name"), list(zip((f32, bf16, INT8, f32), NORMS, strict=True)), ids=str
)
@pytest.mark.usefixtures("few_programs")
def test_projections_side_by_side(element: Attribute, name: str, tmp_path: Path) -> None:
    module = fused(projections(element, 70, 12), name)
    launch = list(kernels(module))[-1]
    assert [op.name for op in each(launch)] == [
        "exec.norm", "exec.linear", "exec.linear", "exec.sparse_linear"
    ]  # fmt: skip
    given = [torch.randn(1, 5), torch.randn(1, 70)]
    assert len(check(begin(module, tmp_path), given=given)) == 2


@pytest.mark.usefixtures("few_programs")
def test_a_row_far_from_zero(tmp_path: Path) -> None:
    """Its mean is subtracted before squares are added up. Floats near 1000 are exact to 3e-5."""
    module = fused(projections(f32, 70, 20), "layer")
    given = [torch.randn(1, 5), 1000 + torch.randn(1, 70)]
    check(begin(module, tmp_path), given=given, tolerance=3e-4)


def dense_mlp() -> ModuleOp:
    program = Program(bf16)
    x = program.buffer(1, 70)
    mlp(program, x, x, spz.Act.SILU, True, 9)
    return program.module


BLOCKS: dict[str, Callable[[], tuple[ModuleOp, list[int]]]] = {
    "mlp": lambda: (dense_mlp(), [70]),
    "neurons": lambda: (neurons(INT8, spz.Act.RELU, True), [70]),
    "gates": lambda: (neurons(bf16, spz.Act.SILU, True, gate_only=True), [70]),
    "sparse mlp": lambda: (sparse_mlp(INT8, spz.Act.RELU, True), [70, 40]),
    "known": lambda: (sparse_mlp(bf16, spz.Act.SILU, True, "value"), [70, 40]),
    "known gates": lambda: (sparse_mlp(bf16, spz.Act.SILU, True, "gate"), [70, 40]),
    "head": lambda: (sparse_head(bf16, 50, 70), [70, 50]),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.usefixtures("few_programs")
def test_blocks_of_a_normed_row(name: str, tmp_path: Path) -> None:
    module, sizes = BLOCKS[name]()
    fused(module, "layer")
    given = [torch.randn(1, size) for size in sizes]
    check(begin(module, tmp_path), given=given)


TEXT = """@triton.jit
def side_by_side_{key}(p0, p1, p2, p3, FIRST_0: tl.constexpr, A_0: tl.constexpr, \
FIRST_1: tl.constexpr, B_1: tl.constexpr):
    if tl.program_id(0) < FIRST_1:
        one(p0, p1, p2, FIRST=FIRST_0, A=A_0)
    else:
        two(p0, p3, p2, FIRST=FIRST_1, B=B_1)
"""


def test_the_text_of_a_launch() -> None:
    x, weight, null = Argument("*fp32:16", State()), Argument("*bf16:16", Keys(0)), NULL
    one = call("one", [x, weight, null], (5,), {"FIRST": 0, "A": 1}, warps=2)
    two = call("two", [x, Argument("*bf16", Values(0)), null], (3,), {"FIRST": 0, "B": None})
    both = side_by_side([one, two])
    assert both.kernel.source == TEXT.format(key=both.kernel.function[-12:])
    assert dict(both.kernel.constants) == {"FIRST_0": 0, "A_0": 1, "FIRST_1": 5, "B_1": None}
    assert (both.grid, both.kernel.warps, len(both.operands)) == ((8, 1, 1), 4, 4)


def test_what_norms_and_stands_side_by_side_fits() -> None:
    """Blocks of the size of OPT-6.7B's, and of Llama-2-7B's."""
    fits(fused(projections(bf16, 4096, 4096), "layer"))
    program = Program(bf16)
    x = program.buffer(1, 4096)
    mlp(program, x, x, spz.Act.SILU, True, 11008)
    fits(fused(program.module), archs=(100,))


def test_what_norms_quantised_weights_fits() -> None:
    """On the GPU for which it takes the most registers."""
    fits(fused(projections(INT8, 4096, 4096)), archs=(80,))
    fits(fused(sparse_mlp(INT8, spz.Act.SILU, True, "coarsely", **BIG)), archs=(80,))
