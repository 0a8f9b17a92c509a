"""The dense kernels: in Triton's interpreter beside the reference, and compiled for each GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from triton_support import ROWS, Program, begin, check, fits
from xdsl.dialects.builtin import ModuleOp, bf16, f32
from xdsl.ir import Attribute, SSAValue

from sparsecomp.codegen.triton import attention as attending
from sparsecomp.codegen.triton import dense, parts
from sparsecomp.dialects import exec, spz
from sparsecomp.dialects.exec import Fold, Index, Layout, NormKind, Part
from sparsecomp.dialects.spz.attributes import Act, Pairing

OTHER = exec.PartAttr(Part.OTHER)
TOKENS = (3, 10, 0, 7, 2)
FLOATS = pytest.mark.parametrize("element", (f32, bf16), ids=str)


def linear(
    program: Program,
    x: SSAValue,
    out: SSAValue,
    inputs: int,
    outputs: int,
    *residual: SSAValue,
    layout: Layout = Layout.ROWS,
) -> None:
    program.kernel(
        exec.Linear,
        x,
        *residual,
        out,
        weight=program.weights(layout, outputs, inputs),
        bias=program.floats(outputs),
        part=OTHER,
    )


def norm(program: Program, x: SSAValue, out: SSAValue, kind: NormKind, size: int) -> None:
    program.kernel(
        exec.Norm,
        x,
        out,
        kind=exec.NormKindAttr(kind),
        weight=program.floats(size),
        bias=program.floats(size) if kind is NormKind.LAYER else None,
        eps=1e-5,
    )


def mlp(
    program: Program, x: SSAValue, residual: SSAValue, act: Act, gated: bool, neurons: int
) -> SSAValue:
    """An MLP, and the sum of its parts."""
    rows, size = x.type.get_shape()
    left, out = program.buffer(rows, size), program.buffer(rows, size)
    program.kernel(
        exec.Mlp,
        x,
        left,
        weights=program.weights(
            Layout.NEURON_MAJOR, neurons, size, size, matrices=3 if gated else 2
        ),
        gate_bias=program.floats(neurons) if gated else None,
        up_bias=program.floats(neurons),
        gated=gated or None,
        act=spz.ActAttr(act),
    )
    program.kernel(exec.Sum, left, residual, out, bias=program.floats(size))
    return out


def rope(program: Program, x: SSAValue, pairing: Pairing, rotary: int, positions: int) -> SSAValue:
    out = program.buffer(*x.type.get_shape())
    program.kernel(
        exec.Rope,
        x,
        out,
        cos=program.floats(positions, rotary),
        sin=program.floats(positions, rotary),
        rotary=rotary,
        pairing=spz.PairingAttr(pairing),
    )
    return out


def layers(element: Attribute, rows: int) -> ModuleOp:
    """All kernels but attention, on rows of odd sizes."""
    program = Program(element)
    size = 21
    x, pos, y, z = (program.buffer(rows, size) for _ in range(4))
    table = program.weights(Layout.ROWS, 11, size)
    program.kernel(exec.Embed, x, table=table, index=exec.IndexAttr(Index.TOKENS))
    table = program.weights(Layout.ROWS, 40, size)
    program.kernel(exec.Embed, pos, table=table, index=exec.IndexAttr(Index.POSITIONS))
    program.kernel(exec.Ids, program.buffer(rows), index=exec.IndexAttr(Index.TOKENS))
    norm(program, x, y, NormKind.RMS, size)
    norm(program, pos, z, NormKind.LAYER, size)
    fused = program.buffer(rows, 42)
    linear(program, y, fused, size, 42)
    heads = program.view(fused, (rows, 3, 7), 21, (7, 1))
    normed = program.buffer(rows, 3, 7)
    norm(program, heads, normed, NormKind.RMS, 7)
    rope(program, normed, Pairing.HALF, 6, 40)
    rope(program, heads, Pairing.INTERLEAVED, 4, 40)
    each = program.buffer(rows, 3, 5)
    linear(program, normed, each, 7, 5)
    columns = program.buffer(rows, 33)
    linear(program, z, columns, size, 33, layout=Layout.COLUMNS)
    for layout in (Layout.ROWS, Layout.COLUMNS):
        linear(program, columns, program.buffer(rows, size), 33, size, z, layout=layout)
    wide = program.buffer(rows, 300)
    linear(program, z, wide, size, 300)
    linear(program, wide, program.buffer(rows, 3), 300, 3)
    first = mlp(program, y, z, Act.SILU, True, 19)
    mlp(program, first, z, Act.RELU, False, 9)
    for fold in Fold:
        shape = (rows, 3, 7) if fold is Fold.SOFTMAX else (rows, 3)
        program.kernel(exec.Reduce, heads, program.buffer(*shape), fold=exec.FoldAttr(fold))
    if rows == ROWS:
        program.kernel(exec.Last, fused, program.buffer(1, 42))
    return program.module


@pytest.fixture
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few that each has several blocks to do, and shares of a context several too."""
    for module in (dense, parts):
        monkeypatch.setattr(module, "PROGRAMS", 4)
    monkeypatch.setattr(parts, "MAX_SPLITS", 3)
    monkeypatch.setattr(attending, "CACHED", dict.fromkeys(attending.CACHED, 256))


@FLOATS
@pytest.mark.parametrize("tokens", (TOKENS[:1], TOKENS), ids=("row", "tile"))
@pytest.mark.usefixtures("few_programs")
def test_layers(element: Attribute, tokens: tuple[int, ...], tmp_path: Path) -> None:
    module = layers(element, 1 if len(tokens) == 1 else ROWS)
    check(begin(module, tmp_path, tokens=tokens, position=4))


@FLOATS
@pytest.mark.parametrize("act", Act)
def test_activations(element: Attribute, act: Act, tmp_path: Path) -> None:
    program = Program(element)
    x = program.buffer(1, 5)
    mlp(program, x, x, act, False, 6)
    check(begin(program.module, tmp_path), given=[4 * torch.randn(1, 5)])


def attention(
    element: Attribute,
    rows: int,
    *,
    groups: int,
    heads: int,
    key: int,
    value: int,
    sinks: bool = False,
    slopes: bool = False,
    turned: bool = False,
    **how: Any,
) -> ModuleOp:
    program = Program(element)
    program.weights(Layout.ROWS, 1, 8)  # what weights are, the cache is
    window = how.get("window")
    slot = program.slot(groups, key, value, window)
    q, k = program.buffer(rows, heads, key), program.buffer(rows, groups, key)
    v, out = program.buffer(rows, groups, value), program.buffer(rows, heads, value)
    turn: dict[str, Any] = {}
    if turned:
        pairing = spz.PairingAttr(Pairing.HALF)
        turn = {"rotary": 6, "pairing": pairing}
        turn |= {name: program.floats(40, 6) for name in ("cos", "sin")}
    program.kernel(exec.Append, k, v, slot=slot, **turn)
    how |= turn
    how |= {"slot": slot, "scale": key**-0.5, "slopes": program.floats(heads) if slopes else None}
    sink = {"sinks": program.floats(heads) if sinks else None}
    if rows == ROWS:
        program.kernel(exec.Attend, q, out, **how, **sink)
        return program.module
    parts = program.buffer(rows, heads, -(-value // 16) * 16 + 16)
    program.kernel(exec.Attend, q, parts, **how)
    program.kernel(exec.Combine, parts, out, **sink)
    return program.module


ATTENTIONS: dict[str, dict[str, Any]] = {
    "plain": {"groups": 2, "heads": 2, "key": 9, "value": 7},
    "shared": {"groups": 2, "heads": 6, "key": 8, "value": 8, "sinks": True},
    "window": {"groups": 1, "heads": 2, "key": 8, "value": 5, "window": 6, "softcap": 2.0},
    "chunk": {"groups": 1, "heads": 1, "key": 8, "value": 8, "chunk": 5, "slopes": True},
}


def check_attention(
    element: Attribute, tokens: tuple[int, ...], position: int, folder: Path, **how: Any
) -> None:
    module = attention(element, 1 if len(tokens) == 1 else ROWS, **how)
    run = begin(module, folder, tokens=tokens, position=position)
    n, heads, groups = len(tokens), how["heads"], how["groups"]
    shapes = ((n, heads, how["key"]), (n, groups, how["key"]), (n, groups, how["value"]))
    # What the cache can hold: the interpreter cuts floats off where a GPU rounds them.
    check(run, given=[torch.randn(shape).bfloat16().float() for shape in shapes])


@FLOATS
@pytest.mark.parametrize("kind", ATTENTIONS)
@pytest.mark.parametrize("position", (0, 23))
@pytest.mark.parametrize("tokens", (TOKENS[:1], TOKENS), ids=("row", "tile"))
@pytest.mark.usefixtures("few_programs")
def test_attention(
    element: Attribute, kind: str, position: int, tokens: tuple[int, ...], tmp_path: Path
) -> None:
    check_attention(element, tokens, position, tmp_path, **ATTENTIONS[kind])


@pytest.mark.parametrize("tokens", (TOKENS[:1], TOKENS), ids=("row", "tile"))
@pytest.mark.usefixtures("few_programs")
def test_attention_that_turns(tokens: tuple[int, ...], tmp_path: Path) -> None:
    check_attention(f32, tokens, 23, tmp_path, **ATTENTIONS["shared"], turned=True)


def test_what_a_decode_step_launches_fits() -> None:
    """Blocks of the size of Llama-2-7B's, and of OPT-6.7B's."""
    program = Program(bf16)
    x, y = program.buffer(1, 4096), program.buffer(1, 4096)
    table = program.weights(Layout.ROWS, 32000, 4096)
    program.kernel(exec.Embed, x, table=table, index=exec.IndexAttr(Index.TOKENS))
    norm(program, x, y, NormKind.LAYER, 4096)
    linear(program, x, y, 4096, 4096)
    rope(program, program.view(y, (1, 32, 128), 0, (128, 1)), Pairing.HALF, 128, 4096)
    mlp(program, x, y, Act.SILU, True, 11008)
    fits(program.module)
    fits(attention(bf16, 1, groups=8, heads=32, key=128, value=128, turned=True))
    opt = Program(bf16)
    x = opt.buffer(1, 4096)
    mlp(opt, x, x, Act.RELU, False, 16384)
    fits(opt.module, archs=(90,))
    fits(attention(bf16, 1, groups=32, heads=32, key=128, value=128), archs=(90,))


def test_what_prefill_launches_fits() -> None:
    program = Program(bf16)
    x, y = program.buffer(ROWS, 4096), program.buffer(ROWS, 4096)
    linear(program, x, y, 4096, 4096)
    mlp(program, x, y, Act.SILU, True, 11008)
    fits(program.module)
    fits(attention(bf16, ROWS, groups=32, heads=32, key=128, value=128, turned=True))
    fits(attention(bf16, ROWS, groups=4, heads=8, key=256, value=256), archs=(100,))
    fits(attention(f32, ROWS, groups=12, heads=12, key=64, value=64), archs=(80,))


@pytest.mark.parametrize("rows", (1, ROWS), ids=("row", "tile"))
def test_activations_of_rows(rows: int, tmp_path: Path) -> None:
    program, size = Program(), 600  # more than a program does
    x, up, out = (program.buffer(rows, size) for _ in range(3))
    program.kernel(exec.Activate, x, up, out, act=spz.ActAttr(Act.SILU))
    alone = program.buffer(rows, size)
    program.kernel(exec.Activate, x, alone, act=spz.ActAttr(Act.GELU_TANH))
    tokens = TOKENS if rows == ROWS else TOKENS[:1]
    given = [torch.randn(len(tokens), size) for _ in range(2)]
    check(begin(program.module, tmp_path, tokens=tokens), given=given)
    fits(program.module, archs=(90,))
