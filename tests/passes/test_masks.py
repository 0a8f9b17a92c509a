"""Masks over long contexts are classified by samples: rightly, and without a square of them."""

from __future__ import annotations

import time

import pytest
import torch

from sparsecomp.errors import SparsecompError
from sparsecomp.opt import parse
from sparsecomp.passes.base import PassContext
from sparsecomp.passes.pipeline import find_pass
from sparsecomp.reference.evaluate import evaluate

LONG = 131072

MASKS = {
    "causal": "%m = aten.ge.Scalar(%d, other = 0) : (tensor<?x?xi64>) -> tensor<?x?xi1>",
    "window": """
      %a = aten.ge.Scalar(%d, other = 0) : (tensor<?x?xi64>) -> tensor<?x?xi1>
      %b = aten.lt.Scalar(%d, other = 4096) : (tensor<?x?xi64>) -> tensor<?x?xi1>
      %m = aten.__and__.Tensor(%a, %b) : (tensor<?x?xi1>, tensor<?x?xi1>) -> tensor<?x?xi1>""",
    "chunks": """
      %a = aten.ge.Scalar(%d, other = 0) : (tensor<?x?xi64>) -> tensor<?x?xi1>
      %pc = aten.floor_divide.Scalar(%p, other = 8192) : (tensor<?x1xi64>) -> tensor<?x1xi64>
      %ic = aten.floor_divide.Scalar(%i, other = 8192) : (tensor<?xi64>) -> tensor<?xi64>
      %b = aten.eq.Tensor(%pc, %ic) : (tensor<?x1xi64>, tensor<?xi64>) -> tensor<?x?xi1>
      %m = aten.__and__.Tensor(%a, %b) : (tensor<?x?xi1>, tensor<?x?xi1>) -> tensor<?x?xi1>""",
    # Causal at first; from position 100000 on a window of 7.
    "late": """
      %a = aten.ge.Scalar(%d, other = 0) : (tensor<?x?xi64>) -> tensor<?x?xi1>
      %l = aten.lt.Scalar(%p, other = 100000) : (tensor<?x1xi64>) -> tensor<?x1xi1>
      %n = aten.lt.Scalar(%d, other = 7) : (tensor<?x?xi64>) -> tensor<?x?xi1>
      %o = aten.__or__.Tensor(%l, %n) : (tensor<?x1xi1>, tensor<?x?xi1>) -> tensor<?x?xi1>
      %m = aten.__and__.Tensor(%a, %o) : (tensor<?x?xi1>, tensor<?x?xi1>) -> tensor<?x?xi1>""",
}


def raised(mask: str, positions: int) -> str:
    """The attention that a mask is raised to, as text."""
    heads = "tensor<1x2x?x8xf32>"
    module = parse(f"""func.func @forward(%x: {heads}) -> {heads} {{
      %i = aten.arange(end = s) : () -> tensor<?xi64>
      %p = aten.reshape(%i, shape = [s, 1]) : (tensor<?xi64>) -> tensor<?x1xi64>
      %d = aten.sub.Tensor(%p, %i) : (tensor<?x1xi64>, tensor<?xi64>) -> tensor<?x?xi64>
      {MASKS[mask]}
      %0 = aten.scaled_dot_product_attention(%x, %x, %x, attn_mask = %m)
         : ({heads}, {heads}, {heads}, tensor<?x?xi1>) -> {heads}
      func.return %0 : {heads}
    }}""")

    def weights(name: str) -> torch.Tensor:
        raise AssertionError(f"a mask reads no weight, but @{name}")

    find_pass("raise-attention")(module, PassContext(evaluate, weights, positions))
    return next(line for line in str(module).splitlines() if "spz.attention" in line)


@pytest.mark.parametrize("positions", [64, 2048, LONG])
def test_causal(positions: int) -> None:
    text = raised("causal", positions)
    assert "window" not in text and "chunk" not in text


@pytest.mark.parametrize(
    ("mask", "positions", "expected"),
    [
        ("window", LONG, "window = 4096 : i64"),
        ("window", 4097, "window = 4096 : i64"),
        ("chunks", LONG, "chunk = 8192 : i64"),
        ("chunks", 8193, "chunk = 8192 : i64"),
    ],
)
def test_windows_and_chunks(mask: str, positions: int, expected: str) -> None:
    start = time.perf_counter()
    assert expected in raised(mask, positions)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(("mask", "positions"), [("window", 4096), ("chunks", 8192)])
def test_one_as_long_as_the_context_is_none(mask: str, positions: int) -> None:
    text = raised(mask, positions)
    assert "window" not in text and "chunk" not in text


def test_a_mask_that_changes_far_away_is_refused() -> None:
    assert "window" not in raised("late", 2048)
    with pytest.raises(SparsecompError, match="neither causal, a sliding window nor chunks"):
        raised("late", LONG)
