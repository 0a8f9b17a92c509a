"""What the manifest says about a program, counted by hand for a small one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsecomp.codegen.account import (
    blocks,
    bytes_per_token,
    kv_bytes_per_position,
    logits_width,
    rewind_limit,
)
from sparsecomp.codegen.counters import counters
from sparsecomp.dialects.reads import Reading
from sparsecomp.opt import optimise, parse
from sparsecomp.options import Device
from sparsecomp.runtime.artifact import Block, BlockKind, Part

MODULE = """
exec.storage @table.rows {{layout = #exec<layout rows>, element = bf16, shape = array<i64: 32, 8>, of = [@table]}}
exec.storage @q.rows {{layout = #exec<layout rows>, element = bf16, shape = array<i64: 8, 8>, of = [@q]}}
exec.storage @cos.floats {{layout = #exec<layout floats>, element = f32, shape = array<i64: 64, 4>, of = [@cos]}}
exec.storage @norm.floats {{layout = #exec<layout floats>, element = f32, shape = array<i64: 8>, of = [@norm]}}
exec.storage @mlp.neurons {{layout = #exec<layout neuron_major>, element = bf16, shape = array<i64: 12, 8, 8>, of = [@gate, @up, @down]}}
exec.storage @experts.rows {{layout = #exec<layout rows>, element = bf16, shape = array<i64: 4, 8, 8>, of = [@experts]}}
exec.kv_slot 0 : i64 {{groups = 2 : i64, key = 4 : i64, value = 6 : i64}}
exec.kv_slot 1 : i64 {{groups = 1 : i64, key = 4 : i64, value = 4 : i64{window}}}
exec.program @prefill attributes {{tile = 64 : i64, workers = 3 : i64}} {{
  exec.barrier
}}
exec.program @decode attributes {{tile = 1 : i64, workers = 3 : i64}} {{
  %x = exec.buffer : memref<1x8xf32>
  exec.embed @table.rows into %x {{index = #exec<index tokens>}} : memref<1x8xf32>
  exec.norm %x into %x {{kind = #exec<norm_kind rms>, weight = @norm.floats, eps = 1.0 : f64}} : memref<1x8xf32>, memref<1x8xf32>
  exec.linear %x, @q.rows into %x {{bias = @norm.floats, part = #exec<part attention>}} : memref<1x8xf32>, memref<1x8xf32>
  %q = exec.view %x {{start = 0 : i64, strides = array<i64: 4, 1>}} : memref<1x8xf32> -> memref<1x2x4xf32>
  exec.rope %q into %q {{rotary = 4 : i64, pairing = #spz<pairing half>, cos = @cos.floats, sin = @cos.floats}} : memref<1x2x4xf32>, memref<1x2x4xf32>
  exec.rope %q into %q {{rotary = 4 : i64, pairing = #spz<pairing half>, cos = @cos.floats, sin = @cos.floats}} : memref<1x2x4xf32>, memref<1x2x4xf32>
  exec.mlp %x, @mlp.neurons into %x {{gated, act = #spz<act silu>}} : memref<1x8xf32>, memref<1x8xf32>
  exec.sum %x into %x {{bias = @norm.floats}} : memref<1x8xf32>, memref<1x8xf32>
  %choices = exec.buffer : memref<1x2xf32>
  %rows = exec.buffer : memref<1x2x8xf32>
  exec.expert_linear %rows, %choices, @experts.rows into %rows : memref<1x2x8xf32>, memref<1x2xf32>, memref<1x2x8xf32>
  %factor = exec.constant @norm.floats : memref<8xf32>
  %logits = exec.buffer {{space = #exec<space output>}} : memref<1x32xf32>
  exec.linear %x, @table.rows into %logits {{part = #exec<part head>}} : memref<1x8xf32>, memref<1x32xf32>
}}
"""  # noqa: E501


def text(window: int | None = None) -> str:
    return MODULE.format(window="" if window is None else f", window = {window} : i64")


def test_bytes_per_token() -> None:
    assert bytes_per_token(parse(text())) == {
        Part.EMBED: 8 * 2,  # one row
        Part.ATTENTION: 8 * 8 * 2 + 8 * 4 + 4 * 4,  # matrix, bias, one row of the table once
        # Each part of a neuron takes a cache line. Then a bias, and two of four experts.
        Part.MLP: 12 * 3 * 64 + 8 * 4 + 2 * 8 * 8 * 2,
        Part.PREDICTORS: 0,
        Part.HEAD: 32 * 8 * 2,
        Part.OTHER: 8 * 4 + 8 * 4,  # norm, constant
    }


def test_what_is_normed_in_several_launches_counts_once() -> None:
    golden = Path(__file__).parents[1] / "passes" / "fuse-norms.mlir"
    fused = optimise(golden.read_text(), ["fuse-norms"], device=Device.CUDA)
    assert fused.count("exec.norm %x into") == 2 + 1  # and one in @prefill
    assert bytes_per_token(parse(fused)) == bytes_per_token(parse(golden.read_text()))


SPARSE = """
exec.storage @bias.floats {{layout = #exec<layout floats>, element = f32, shape = array<i64: 100>, of = [@bias]}}
exec.storage @rank.rows {{layout = #exec<layout rows>, element = bf16, shape = array<i64: 100, 8>, of = [@rank]}}
exec.storage @plain.neurons {{layout = #exec<layout neuron_major>, element = bf16, shape = array<i64: 100, 40, 80>, of = [@up, @down]}}
exec.storage @gated.neurons {{layout = #exec<layout neuron_major>, element = bf16, shape = array<i64: 100, 40, 80>, of = [@gate, @up, @down]}}
exec.storage @pairs.rows {{layout = #exec<layout rows>, element = bf16, shape = array<i64: 200, 40>, of = [@gates, @ups]}}
exec.program @decode attributes {{tile = 1 : i64, workers = 3 : i64}} {{
  %x = exec.buffer : memref<1x40xf32>
  %scores = exec.buffer : memref<1x100xf32>
  %list = exec.buffer : memref<1x101xf32>
  %y = exec.buffer : memref<1x80xf32>
  {kernel}
}}
"""  # noqa: E501
UP, DOWN = 128, 192
"""Bytes of a row of 40 and a column of 80, in whole cache lines; a gate is as long as up."""
LISTED = "of %list : memref<1x101xf32>"
KNOWING = f"{LISTED} knowing %scores : memref<1x100xf32>"
INTO_Y = "memref<1x40xf32>, memref<1x80xf32>"
SHARES = "act = #spz<act relu>, density = 2.500000e-01 : f64, active = 1.000000e-01 : f64"
HOW = "threshold = 0.0 : f64, density = 2.500000e-01 : f64, scales = @bias.floats"


@pytest.mark.parametrize(
    ("kernel", "part", "size"),
    [
        (
            f"exec.sparse_mlp %x, @plain.neurons {LISTED} into %y {{{SHARES}}} : {INTO_Y}",
            Part.MLP,
            25 * UP + 10 * DOWN,
        ),
        (
            f"exec.sparse_mlp %x, @gated.neurons {LISTED} into %y "
            f"{{gated, up_bias = @bias.floats, {SHARES}}} : {INTO_Y}",
            Part.MLP,
            25 * UP + 10 * (UP + 4 + DOWN),  # a bias is read with its row
        ),
        (
            f"exec.sparse_mlp %x, @gated.neurons {KNOWING} into %y {{gated, {SHARES}}} : {INTO_Y}",
            Part.MLP,
            25 * DOWN,
        ),
        (
            f"exec.sparse_mlp %x, @gated.neurons {KNOWING} into %y "
            f"{{gated, gate_known, {SHARES}}} : {INTO_Y}",
            Part.MLP,
            25 * (UP + DOWN),
        ),
        (
            "exec.neurons %x, @gated.neurons into %scores {gated, act = #spz<act silu>} : "
            "memref<1x40xf32>, memref<1x100xf32>",
            Part.MLP,
            100 * 2 * UP,
        ),
        (
            "exec.neurons %x, @gated.neurons into %scores {gated, gate_only, "
            "act = #spz<act silu>} : memref<1x40xf32>, memref<1x100xf32>",
            Part.MLP,
            100 * UP,
        ),
        (
            "exec.neurons %x, @pairs.rows into %scores {gated, gate_bias = @bias.floats, "
            "act = #spz<act silu>} : memref<1x40xf32>, memref<1x100xf32>",
            Part.PREDICTORS,
            200 * 40 * 2 + 400,
        ),
        (
            f"exec.select %scores into %list {{{HOW}, part = #exec<part mlp>}} : "
            "memref<1x100xf32>, memref<1x101xf32>",
            Part.MLP,
            400,
        ),
        (
            f"exec.select %scores into %list {{{HOW}, part = #exec<part predictors>}} : "
            "memref<1x100xf32>, memref<1x101xf32>",
            Part.PREDICTORS,
            400,
        ),
        (
            "exec.linear %y, @rank.rows into %scores {part = #exec<part predictors>} : "
            "memref<1x80xf32>, memref<1x100xf32>",
            Part.PREDICTORS,
            100 * 8 * 2,
        ),
    ],
)
def test_bytes_of_sparse_kernels(kernel: str, part: Part, size: int) -> None:
    module = parse(SPARSE.format(kernel=kernel))
    assert bytes_per_token(module) == dict.fromkeys(Part, 0) | {part: size}
    if part is Part.PREDICTORS:
        assert not any(bytes_per_token(module, Reading.DENSE).values())


HEADS = """
exec.storage @q.rows {layout = #exec<layout rows>, element = bf16, shape = array<i64: 24, 8>, of = [@q]}
exec.storage @o.columns {layout = #exec<layout columns>, element = bf16, shape = array<i64: 8, 24>, of = [@o]}
exec.storage @q.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 24>, of = [@b]}
exec.storage @o.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 8>, of = [@c]}
exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
  %x = exec.buffer : memref<1x8xf32>
  %list = exec.buffer : memref<1x4xf32>
  %q = exec.buffer : memref<1x24xf32>
  %parts = exec.buffer : memref<1x8xf32>
  exec.sparse_linear %x, @q.rows of %list : memref<1x4xf32> into %q {bias = @q.floats, side = #spz<side outputs>, blocks = 3 : i64, density = 2.510000e-01 : f64, part = #exec<part attention>} : memref<1x8xf32>, memref<1x24xf32>
  exec.sparse_linear %q, @o.columns of %list : memref<1x4xf32> into %parts {side = #spz<side inputs>, blocks = 3 : i64, density = 2.510000e-01 : f64, part = #exec<part attention>} : memref<1x24xf32>, memref<1x8xf32>
  exec.sum %parts into %x {bias = @o.floats} : memref<1x8xf32>, memref<1x8xf32>
}
"""  # noqa: E501


def test_bytes_of_selected_heads() -> None:
    """The expected share of both projections, as whole bytes; the bias of the sum as theirs."""
    total = bytes_per_token(parse(HEADS))
    assert total[Part.ATTENTION] == round((384 + 96 + 384) * 0.251) + 32
    assert sum(total.values()) == total[Part.ATTENTION]


def test_kv_bytes_per_position() -> None:
    assert kv_bytes_per_position(parse(text())) == (2 * (4 + 6) + 1 * (4 + 4)) * 2


@pytest.mark.parametrize(
    ("window", "limit"),
    [(None, None), (1000, None), (999, 3 * 64 + 1), (16, 3 * 64 + 1)],
)
def test_rewind_limit(window: int | None, limit: int | None) -> None:
    """A window that holds every position forgets none."""
    assert rewind_limit(parse(text(window)), positions=1000) == limit


def test_logits_width() -> None:
    assert logits_width(parse(text())) == 32


BLOCKS = """
exec.storage @q.rows {layout = #exec<layout rows>, element = bf16, shape = array<i64: 32, 16>, of = [@q]}
exec.storage @o.columns {layout = #exec<layout columns>, element = bf16, shape = array<i64: 16, 32>, of = [@o]}
exec.storage @low.rows {layout = #exec<layout rows>, element = bf16, shape = array<i64: 4, 16>, of = [@low]}
exec.storage @heads.rows {layout = #exec<layout rows>, element = bf16, shape = array<i64: 8, 4>, of = [@heads]}
exec.storage @scores.rows {layout = #exec<layout rows>, element = bf16, shape = array<i64: 40, 4>, of = [@scores]}
exec.storage @bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 40>, of = [@bias]}
exec.storage @gate_bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 40>, of = [@gate_bias]}
exec.storage @up_bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 40>, of = [@up_bias]}
exec.storage @plain_bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 40>, of = [@plain_bias]}
exec.storage @q_bias.floats {layout = #exec<layout floats>, element = f32, shape = array<i64: 32>, of = [@q_bias]}
exec.storage @mlp.neurons {layout = #exec<layout neuron_major>, element = bf16, shape = array<i64: 40, 16, 48>, of = [@up, @down]}
exec.storage @gated.neurons {layout = #exec<layout neuron_major>, element = bf16, shape = array<i64: 40, 48, 16>, of = [@gate, @up, @down]}
exec.program @decode attributes {tile = 1 : i64, workers = 2 : i64} {
  %x = exec.buffer : memref<1x16xf32>
  %n = exec.buffer : memref<1x16xf32>
  exec.norm %x into %n {kind = #exec<norm_kind rms>, eps = 1.0 : f64} : memref<1x16xf32>, memref<1x16xf32>
  // Heads: a predictor of rank 4, half of 8 heads.
  %r = exec.buffer : memref<1x4xf32>
  %s = exec.buffer : memref<1x8xf32>
  %heads = exec.buffer : memref<1x9xf32>
  %q = exec.buffer : memref<1x32xf32>
  %a = exec.buffer : memref<1x32xf32>
  %o = exec.buffer : memref<1x16xf32>
  exec.linear %n, @low.rows into %r {part = #exec<part predictors>} : memref<1x16xf32>, memref<1x4xf32>
  exec.linear %r, @heads.rows into %s {part = #exec<part predictors>} : memref<1x4xf32>, memref<1x8xf32>
  exec.select %s into %heads {threshold = 0.0 : f64, density = 0.5 : f64, module = "attn", part = #exec<part predictors>} : memref<1x8xf32>, memref<1x9xf32>
  exec.sparse_linear %n, @q.rows of %heads : memref<1x9xf32> into %q {bias = @q_bias.floats, side = #spz<side outputs>, blocks = 8 : i64, density = 0.5 : f64, part = #exec<part attention>} : memref<1x16xf32>, memref<1x32xf32>
  exec.attend %q of %heads : memref<1x9xf32> from 0 : i64 into %a {scale = 1.0 : f64, module = "attn"} : memref<1x32xf32>, memref<1x32xf32>
  exec.sparse_linear %a, @o.columns of %heads : memref<1x9xf32> into %o {side = #spz<side inputs>, blocks = 8 : i64, density = 0.5 : f64, part = #exec<part attention>} : memref<1x32xf32>, memref<1x16xf32>
  // Neurons: a predictor of rank 4, a quarter of 40, of which four are read further.
  %t = exec.buffer : memref<1x40xf32>
  %list = exec.buffer : memref<1x41xf32>
  %y = exec.buffer : memref<1x48xf32>
  exec.linear %r, @scores.rows into %t {bias = @bias.floats, part = #exec<part predictors>} : memref<1x4xf32>, memref<1x40xf32>
  exec.select %t into %list {threshold = 0.0 : f64, density = 0.25 : f64, module = "mlp.0", part = #exec<part predictors>} : memref<1x40xf32>, memref<1x41xf32>
  exec.sparse_mlp %x, @mlp.neurons of %list : memref<1x41xf32> into %y {up_bias = @plain_bias.floats, act = #spz<act relu>, density = 0.25 : f64, active = 0.1 : f64, module = "mlp.0"} : memref<1x16xf32>, memref<1x48xf32>
  // Gates first, then up and down of half the neurons.
  %v = exec.buffer : memref<1x40xf32>
  %some = exec.buffer : memref<1x41xf32>
  exec.neurons %y, @gated.neurons into %v {gated, gate_only, gate_bias = @gate_bias.floats, act = #spz<act silu>} : memref<1x48xf32>, memref<1x40xf32>
  exec.select %v into %some {threshold = 0.5 : f64, magnitude, density = 0.5 : f64, module = "mlp.1", part = #exec<part mlp>} : memref<1x40xf32>, memref<1x41xf32>
  exec.sparse_mlp %y, @gated.neurons of %some : memref<1x41xf32> knowing %v : memref<1x40xf32> into %x {gated, gate_known, gate_bias = @gate_bias.floats, up_bias = @up_bias.floats, act = #spz<act silu>, density = 0.5 : f64, active = 0.5 : f64, module = "mlp.1"} : memref<1x48xf32>, memref<1x16xf32>
}
"""  # noqa: E501

HEADS_PREDICTOR = 4 * 16 * 2 + 8 * 4 * 2
# The second predictor shares its first half with the one of the heads.
NEURONS_PREDICTOR = 4 * 16 * 2 + 40 * 4 * 2 + 40 * 4
GATES = 40 * (128 + 4)


def test_sparse_blocks() -> None:
    assert blocks(parse(BLOCKS)) == (
        Block(
            module="attn",
            kind=BlockKind.ATTENTION,
            units=8,
            density=0.5,
            active=0.5,
            chosen_bytes=(4 * 16 * 2 + 4 * 4) + 16 * 4 * 2,  # rows with bias, columns
            active_bytes=0,
            predictor_bytes=HEADS_PREDICTOR,
            chosen_counter=2,
            active_counter=None,
            trace=0,
        ),
        Block(
            module="mlp.0",
            kind=BlockKind.MLP,
            units=40,
            density=0.25,
            active=0.1,
            chosen_bytes=64 + 4,
            active_bytes=128,
            predictor_bytes=NEURONS_PREDICTOR,
            chosen_counter=3,
            active_counter=4,
            trace=9,
        ),
        Block(
            module="mlp.1",
            kind=BlockKind.MLP,
            units=40,
            density=0.5,
            active=0.5,
            chosen_bytes=(128 + 4) + 64,
            active_bytes=0,
            predictor_bytes=0,
            chosen_counter=5,
            active_counter=None,
            trace=9 + 41,
        ),
    )


def test_how_many_are_chosen_at_least() -> None:
    best = BLOCKS.replace(
        "threshold = 0.0 : f64, density", "count = 2 : i64, group = 3 : i64, density"
    )
    heads, neurons, by_gates = blocks(parse(best))
    assert (heads.fewest, neurons.fewest) == (2 * 2 + 2, 13 * 2 + 1)
    assert by_gates.fewest == 0


@pytest.mark.parametrize(
    ("reading", "attention", "mlp", "predictors"),
    [
        (
            Reading.EXPECTED,
            4 * (4 * 16 * 2 + 4 * 4 + 16 * 4 * 2),
            10 * 68 + 4 * 128 + GATES + 20 * (132 + 64),
            HEADS_PREDICTOR + 40 * 4 * 2 + 40 * 4,
        ),
        (
            Reading.DENSE,
            32 * 16 * 2 + 32 * 4 + 16 * 32 * 2,
            40 * (64 + 4 + 128) + 40 * (128 + 128 + 64 + 8),
            0,
        ),
        (Reading.FIXED, 0, GATES, HEADS_PREDICTOR + 40 * 4 * 2 + 40 * 4),
    ],
)
def test_sparse_bytes_per_token(
    reading: Reading, attention: int, mlp: int, predictors: int
) -> None:
    found = bytes_per_token(parse(BLOCKS), reading)
    assert {part: size for part, size in found.items() if size} == {
        part: size
        for part, size in (
            (Part.ATTENTION, attention),
            (Part.MLP, mlp),
            (Part.PREDICTORS, predictors),
        )
        if size
    }


def test_counters() -> None:
    """Two of every program's own, three selections, one MLP that finds zeros as it goes."""
    found = counters(parse(BLOCKS))
    assert (found.count, found.trace_slots) == (2 + 3 + 1, 9 + 41 + 41)
    assert [*found.chosen.values()] == [2, 3, 5]
    assert [*found.further.values()] == [4]
    assert [*found.trace.values()] == [0, 9, 50]
