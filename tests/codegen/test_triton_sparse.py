"""The sparse and quantised kernels: in Triton's interpreter beside the reference, and compiled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_triton_dense import TOKENS, linear, mlp
from triton_support import ROWS, Program, attribute, begin, check, fits
from xdsl.dialects.builtin import IntegerType, ModuleOp, UnitAttr, bf16, f32
from xdsl.ir import Attribute, SSAValue

from sparsecomp.codegen.triton import parts
from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import Index, Layout, Part

INT8, INT6, INT5, INT4 = (IntegerType(bits) for bits in (8, 6, 5, 4))
GATED_OR_NOT = pytest.mark.parametrize(
    "element, gated", ((f32, True), (bf16, False), (INT8, True), (INT4, False)), ids=str
)
MLP = exec.PartAttr(Part.MLP)


def dense_layers(element: Attribute, rows: int, size: int = 70, outputs: int = 5) -> ModuleOp:
    """The dense kernels that read rows of weights."""
    program = Program(element)
    x, y = program.buffer(rows, size), program.buffer(rows, outputs)
    table = program.weights(Layout.ROWS, 11, size)
    program.kernel(exec.Embed, x, table=table, index=exec.IndexAttr(Index.TOKENS))
    linear(program, x, y, size, outputs)
    linear(program, x, program.buffer(rows, outputs), size, outputs, layout=Layout.COLUMNS)
    mlp(program, x, x, spz.Act.SILU, True, outputs)
    return program.module


@pytest.mark.parametrize("element", (INT8, INT6, INT5, INT4), ids=str)
@pytest.mark.parametrize("tokens", (TOKENS[:1], TOKENS), ids=("row", "tile"))
def test_quantised_layers(element: Attribute, tokens: tuple[int, ...], tmp_path: Path) -> None:
    module = dense_layers(element, 1 if len(tokens) == 1 else ROWS)
    check(begin(module, tmp_path, tokens=tokens))


def test_quantised_rows_of_every_size_of_chunk(tmp_path: Path) -> None:
    # 8, 4, 2 blocks and 1.
    check(begin(dense_layers(INT8, 1, size=900), tmp_path, tokens=TOKENS[:1]))


def select(units: int, **how: Any) -> ModuleOp:
    program = Program()
    if how.pop("scaled", False):
        how["scales"] = program.floats(units)
    x, out = program.buffer(1, units), program.buffer(1, 1 + units)
    program.kernel(exec.Select, x, out, density=0.1, part=MLP, **how)
    return program.module


SELECTS = {
    "above": (2500, dict(threshold=0.5)),
    "none": (70, dict(threshold=9.0)),
    "all": (70, dict(threshold=-9.0)),
    "between": (1100, dict(threshold=-0.5, below=0.25, scaled=True)),
    "magnitude": (100, dict(threshold=1.0, magnitude=True)),
    "best of groups": (300, dict(count=5, group=128)),
    "best of few": (50, dict(count=3, group=24, magnitude=True, scaled=True)),
    "best of one group": (50, dict(count=12, group=50)),
    "all of a short group": (6, dict(count=7, group=9)),
    "best of many": (20000, dict(count=100, group=20000, or_all=True)),
    "most of many": (9000, dict(count=7000, group=9000)),
    "probable": (20000, dict(count=100, group=20000, probability=1e-4, or_all=True)),
    "few are probable": (9000, dict(count=300, group=9000, probability=5e-3)),
    "probable among few": (70, dict(count=3, group=70, probability=0.02)),
}


@pytest.mark.parametrize("name", SELECTS)
def test_select(name: str, tmp_path: Path) -> None:
    units, how = SELECTS[name]
    torch.manual_seed(1)
    scores = torch.randn(1, units)
    scores[0, units // 2 :] = scores[0, : units - units // 2]  # ties
    check(begin(select(units, **how), tmp_path), given=[scores])


@pytest.mark.parametrize("scores", (torch.zeros(1, 20000), -torch.ones(1, 20000)))
def test_the_first_of_equals_are_best(scores: torch.Tensor, tmp_path: Path) -> None:
    scores[0, 7000] = 1
    check(begin(select(20000, count=100, group=20000), tmp_path), given=[scores])


def test_what_is_exactly_as_probable_is_not_above(tmp_path: Path) -> None:
    scores = torch.full((1, 70), -200.0)  # nothing beside 0
    scores[0, [20, 50]] = 0
    module = select(70, count=1, group=70, probability=0.5)
    run = begin(module, tmp_path)
    check(run, given=[scores])
    (op,) = (op for op in module.walk() if isinstance(op, exec.Select))
    assert run.entries(op) == [20]


@pytest.mark.parametrize("units, group", ((20000, 20000), (100, 30)))
def test_full_logits_select_everything(units: int, group: int, tmp_path: Path) -> None:
    module = select(units, count=10, group=group, or_all=True)
    check(begin(module, tmp_path, full_logits=True), given=[torch.randn(1, units)])


def on_grid(width: int) -> torch.Tensor:
    """Factors that the CPU's rounding to 8 bits leaves alone: the kernels here do not round."""
    whole = torch.randint(-127, 128, (1, width)).float()
    whole[:, ::32] = 127
    return whole / 64


def neurons(
    element: Attribute,
    act: spz.Act,
    gated: bool,
    rank: int = 0,
    size: int = 70,
    approximate: bool = False,
    **how: Any,
) -> ModuleOp:
    program = Program(element)
    if approximate:
        weights = program.weights(Layout.ROWS, 9 * (1 + gated), size, matrices=1 + gated)
    else:
        weights = program.weights(Layout.NEURON_MAJOR, 9, size, 40, matrices=2 + gated)
    operands = [program.buffer(1, size)]
    if rank:
        operands.append(program.buffer(1, rank))
        how["correction"] = program.weights(Layout.ROWS, 9 * (1 + gated), rank)
        how["coarse"] = True
    if gated:
        how |= {"gated": True, "gate_bias": program.floats(9)}
    out = program.buffer(1, 9)
    given = {"act": spz.ActAttr(act), "weights": weights, "up_bias": program.floats(9)}
    program.kernel(exec.Neurons, *operands, out, **given, **how)
    return program.module


@GATED_OR_NOT
@pytest.mark.parametrize("approximate", (False, True))
def test_neurons(element: Attribute, gated: bool, approximate: bool, tmp_path: Path) -> None:
    torch.manual_seed(2)
    module = neurons(element, spz.Act.RELU, gated, approximate=approximate)
    check(begin(module, tmp_path), given=[on_grid(70)])


def test_gates_alone(tmp_path: Path) -> None:
    module = neurons(bf16, spz.Act.SILU, True, gate_only=True)
    check(begin(module, tmp_path), given=[on_grid(70)])


@pytest.mark.parametrize("gated", (False, True))
def test_coarse_neurons(gated: bool, tmp_path: Path) -> None:
    module = neurons(INT8, spz.Act.SILU, gated, rank=48)
    check(begin(module, tmp_path), given=[on_grid(70), on_grid(48)])


def sketch(units: int, axes: int, bits: int = 2) -> ModuleOp:
    program = Program(IntegerType(bits))
    rows = program.weights(Layout.SKETCH, units, axes, matrices=2)
    program.kernel(exec.Sketch, program.buffer(1, axes + 1), program.buffer(1, units), rows=rows)
    return program.module


@pytest.mark.parametrize("units, axes", ((37, 50), (16, 400), (70, 64)))
@pytest.mark.parametrize("bits", (2, 1))
def test_sketch(units: int, axes: int, bits: int, tmp_path: Path) -> None:
    x = torch.cat([on_grid(axes), torch.randn(1, 1)], 1)
    check(begin(sketch(units, axes, bits), tmp_path), given=[x])


def refine(units: int, axes: int) -> ModuleOp:
    program = Program(IntegerType(2))
    rows = program.weights(Layout.REFINEMENT, units, axes)
    scores, listed = chosen(program, units)
    operands = scores, listed, program.buffer(1, axes + 1), program.buffer(1, units)
    program.kernel(exec.Refine, *operands, rows=rows, offset=0.25, density=0.3)
    return program.module


@pytest.mark.parametrize("units, axes", ((70, 100), (300, 400)))
def test_refine(units: int, axes: int, tmp_path: Path) -> None:
    x = torch.cat([on_grid(axes), torch.randn(1, 1)], 1)
    check(begin(refine(units, axes), tmp_path), given=[torch.randn(1, units), x])


def chosen(program: Program, units: int, **how: Any) -> tuple[SSAValue, SSAValue]:
    """Scores, and the list of those of them above 0, or as said."""
    scores, out = program.buffer(1, units), program.buffer(1, 1 + units)
    program.kernel(exec.Select, scores, out, density=0.3, part=MLP, **({"threshold": 0.0} | how))
    return scores, out


def sparse_mlp(
    element: Attribute,
    act: spz.Act,
    gated: bool,
    known: str = "nothing",
    *,
    count: int = 40,
    size: int = 70,
    width: int = 90,
) -> ModuleOp:
    program = Program(element)
    x, (scores, found) = program.buffer(1, size), chosen(program, count)
    rest, coarse = None, None
    if known == "coarsely":
        _, rest = chosen(program, count)
        coarse = scores
    properties: dict[str, Attribute] = {
        name: attribute(value)
        for name, value in {
            "weights": program.weights(Layout.NEURON_MAJOR, count, size, width, matrices=2 + gated),
            "up_bias": program.floats(count),
            "act": spz.ActAttr(act),
            "density": 0.1,
            "active": 0.1,
        }.items()
    }
    properties |= {"gated": UnitAttr()} if gated else {}
    properties |= {"gate_known": UnitAttr()} if known == "gate" else {}
    properties |= {"rest_density": attribute(0.2)} if rest is not None else {}
    values = scores if known in ("gate", "value") else None
    left, out = program.buffer(1, width), program.buffer(1, width)
    op = exec.SparseMlp.build(
        operands=[x, found, values, rest, coarse, left], properties=properties
    )
    program.block.add_op(op)
    program.kernel(exec.Sum, left, out)
    return program.module


@GATED_OR_NOT
def test_sparse_mlp(element: Attribute, gated: bool, tmp_path: Path) -> None:
    module = sparse_mlp(element, spz.Act.RELU, gated)
    check(begin(module, tmp_path), given=[torch.randn(1, 70), torch.randn(1, 40)])


@pytest.mark.parametrize("known", ("gate", "value"))
@pytest.mark.parametrize("listed", (-1.0, 1.0), ids=("none", "all"))
def test_sparse_mlp_of_known_values(known: str, listed: float, tmp_path: Path) -> None:
    module = sparse_mlp(bf16, spz.Act.SILU, True, known)
    check(begin(module, tmp_path), given=[torch.randn(1, 70), listed * torch.rand(1, 40)])


def test_sparse_mlp_with_coarse_values(tmp_path: Path) -> None:
    module = sparse_mlp(INT8, spz.Act.SILU, True, "coarsely")
    given = [torch.randn(1, 70), torch.randn(1, 40), torch.randn(1, 40)]
    check(begin(module, tmp_path), given=given)


def sparse_linear(
    element: Attribute, side: spz.Side, blocks: int, size: int, other: int
) -> ModuleOp:
    by_inputs = side is spz.Side.INPUTS
    shape = (other, blocks * size) if by_inputs else (blocks * size, other)
    program = Program(element)
    x, (_, found) = program.buffer(1, shape[1]), chosen(program, blocks)
    left = program.buffer(1, shape[0])
    program.kernel(
        exec.SparseLinear,
        x,
        found,
        left,
        weight=program.weights(Layout.COLUMNS if by_inputs else Layout.ROWS, *shape),
        bias=None if by_inputs else program.floats(shape[0]),
        side=spz.SideAttr(side),
        blocks=blocks,
        density=0.5,
        part=MLP,
    )
    if by_inputs:
        program.kernel(exec.Sum, left, program.buffer(1, shape[0]))
    return program.module


@pytest.mark.parametrize("element", (bf16, INT4), ids=str)
@pytest.mark.parametrize("side", spz.Side)
def test_sparse_linear(element: Attribute, side: spz.Side, tmp_path: Path) -> None:
    module = sparse_linear(element, side, 5, 12, 70)
    given = [torch.randn(1, 60 if side is spz.Side.INPUTS else 70), torch.randn(1, 5)]
    check(begin(module, tmp_path), given=given)


def sparse_head(element: Attribute, units: int, size: int) -> ModuleOp:
    program = Program(element)
    x, (scores, found) = program.buffer(1, size), chosen(program, units)
    program.kernel(
        exec.SparseHead,
        x,
        found,
        scores,
        program.buffer(1, units),
        weight=program.weights(Layout.ROWS, units, size),
        bias=program.floats(units),
        offset=-0.5,
        density=0.03,
    )
    return program.module


@pytest.mark.parametrize("element", (f32, INT8), ids=str)
def test_sparse_head(element: Attribute, tmp_path: Path) -> None:
    given = [torch.randn(1, 70), torch.randn(1, 50) - 1]
    check(begin(sparse_head(element, 50, 70), tmp_path), given=given)


@pytest.mark.parametrize("listed", (-1.0, 1.0), ids=("none", "all"))
def test_sparse_head_of_none_and_of_all(listed: float, tmp_path: Path) -> None:
    given = [torch.randn(1, 70), listed * torch.rand(1, 50)]
    check(begin(sparse_head(bf16, 50, 70), tmp_path), given=given)


@pytest.mark.parametrize("heads", ((), (0, 1, 5), range(6)), ids=len)
def test_attention_of_listed_heads(
    heads: Sequence[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MAX_SPLITS", 2)
    program = Program()
    slot = program.slot(3, 8, 5)
    q, left = program.buffer(1, 6, 8), program.buffer(1, 6, 32)
    k, v = program.buffer(1, 3, 8), program.buffer(1, 3, 5)
    _, found = chosen(program, 6)
    program.kernel(exec.Append, k, v, slot=slot)
    program.kernel(exec.Attend, q, found, left, slot=slot, scale=0.3)
    program.kernel(exec.Combine, left, found, program.buffer(1, 6, 5))
    scores = -torch.ones(1, 6)
    scores[0, list(heads)] = 1
    given = [*(torch.randn(1, *shape) for shape in ((6, 8), (3, 8), (3, 5))), scores]
    check(begin(program.module, tmp_path, position=9), given=given)


BIG: dict[str, int] = {"count": 16384, "size": 4096, "width": 4096}
"""An MLP of OPT-6.7B."""


def test_what_a_sparse_decode_step_launches_fits() -> None:
    fits(sparse_mlp(bf16, spz.Act.RELU, False, **BIG))
    fits(sparse_linear(bf16, spz.Side.OUTPUTS, 32, 128, 4096))
    fits(sparse_head(bf16, 32000, 4096))
    fits(sketch(32000, 4096))
    fits(sketch(32000, 4096, bits=1))
    fits(refine(32000, 4096))
    fits(select(128256, count=1536, group=128256, or_all=True))
    fits(select(16384, count=10, group=128))
    fits(select(16384, count=9000, group=16384))


def test_what_reads_quantised_weights_fits() -> None:
    """On the GPU for which it takes the most registers."""
    fits(sparse_mlp(INT8, spz.Act.SILU, True, "coarsely", **BIG), archs=(80,))
    fits(neurons(INT8, spz.Act.SILU, True, rank=64, size=4096), archs=(80,))
    fits(dense_layers(INT8, ROWS, 4096, 4096), archs=(80,))
    fits(dense_layers(INT6, ROWS, 4096, 4096), archs=(80,))
    fits(dense_layers(INT5, ROWS, 4096, 4096), archs=(80,))
