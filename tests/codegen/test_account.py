"""What the manifest says about a program, counted by hand for a small one."""

from __future__ import annotations

import pytest

from sparsecomp.codegen.account import (
    bytes_per_token,
    kv_bytes_per_position,
    logits_width,
    rewind_limit,
)
from sparsecomp.opt import parse
from sparsecomp.runtime.artifact import Part

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
        Part.HEAD: 32 * 8 * 2,
        Part.OTHER: 8 * 4 + 8 * 4,  # norm, constant
    }


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
