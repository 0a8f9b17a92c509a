"""Blocks in fewer bits: what they read, when they are worth it, where they are refused."""

from __future__ import annotations

from typing import Any

import pytest

from sparsecomp import nibbles
from sparsecomp.errors import SparsecompError
from sparsecomp.opt import optimise, parse
from sparsecomp.options import Dtype
from sparsecomp.passes.base import function
from sparsecomp.passes.blocks import AttentionBlock, MlpBlock, blocks, weight_shapes
from sparsecomp.passes.cost import BlockCost
from sparsecomp.passes.narrow import has_long_rows
from sparsecomp.recipe import Recipe
from sparsecomp.sparsity import Choice, LowRank, Narrow

BOTH = Narrow(bits=6, output_bits=6)
INPUTS = Narrow(bits=6, output_bits=8)
KEYS = Narrow(bits=5, output_bits=8, key_value_bits=6)
OUTPUTS = Narrow(bits=8, output_bits=6)

MODULE = """
aten.weight @q : tensor<128x64xf32>
aten.weight @k : tensor<128x64xf32>
aten.weight @v : tensor<128x64xf32>
aten.weight @o : tensor<64x128xf32>
aten.weight @mlp.gate : tensor<256x64xf32>
aten.weight @mlp.up : tensor<256x64xf32>
aten.weight @mlp.down : tensor<64x256xf32>
func.func @prefill(%x: tensor<?x64xf32>) -> tensor<?x64xf32> {
  func.return %x : tensor<?x64xf32>
}
func.func @decode(%x: tensor<1x64xf32>, %p: tensor<1xi64>, %cache: !spz.kv_cache)
    -> tensor<1x64xf32> {
  %0 = spz.linear %x, @q : tensor<1x64xf32> -> tensor<1x128xf32>
  %q = aten.reshape(%0, shape = [1, 2, 64]) : (tensor<1x128xf32>) -> tensor<1x2x64xf32>
  %1 = spz.linear %x, @k : tensor<1x64xf32> -> tensor<1x128xf32>
  %k = aten.reshape(%1, shape = [1, 2, 64]) : (tensor<1x128xf32>) -> tensor<1x2x64xf32>
  %2 = spz.linear %x, @v : tensor<1x64xf32> -> tensor<1x128xf32>
  %v = aten.reshape(%2, shape = [1, 2, 64]) : (tensor<1x128xf32>) -> tensor<1x2x64xf32>
  %a = spz.cached_attention %q, %k, %v, %p, %cache {module = "attn", slot = 0 : i64,
    scale = 1.0 : f64} : tensor<1x2x64xf32>, tensor<1x2x64xf32>, tensor<1x2x64xf32>,
    tensor<1xi64> -> tensor<1x2x64xf32>
  %3 = aten.reshape(%a, shape = [1, 128]) : (tensor<1x2x64xf32>) -> tensor<1x128xf32>
  %4 = spz.linear %3, @o : tensor<1x128xf32> -> tensor<1x64xf32>
  %5 = spz.gated_mlp %4, @mlp.gate, @mlp.up, @mlp.down {module = "mlp", act = #spz<act silu>}
    : tensor<1x64xf32> -> tensor<1x64xf32>
  func.return %5 : tensor<1x64xf32>
}
"""
SHARED = MODULE.replace(
    "func.return %5",
    "%6 = spz.linear %5, @q : tensor<1x64xf32> -> tensor<1x128xf32>\n  func.return %5",
)
"""In which another linear reads the queries' weight."""
GATED = "aten.weight @scale : tensor<128xf32>" + MODULE.replace(
    "%4 = spz.linear %3, @o",
    "%s = aten.get @scale : tensor<128xf32>\n"
    "  %h = aten.mul.Tensor(%3, %s) : (tensor<1x128xf32>, tensor<128xf32>) -> tensor<1x128xf32>\n"
    "  %4 = spz.linear %h, @o",
)
"""In which no linear reads the heads as they are."""
TWICE = MODULE.replace("%k, %v,", "%k, %k,")
"""In which keys are values too."""
APART = MODULE.replace(
    "%1 = spz.linear %x, @k",
    "%y = aten.mul.Tensor(%x, %x) : (tensor<1x64xf32>, tensor<1x64xf32>) -> tensor<1x64xf32>\n"
    "  %1 = spz.linear %y, @k",
)
"""In which keys read something else than queries."""


def stored(
    choices: dict[str, Choice | None],
    text: str = MODULE,
    dtype: Dtype = Dtype.INT8,
    wider: tuple[str, ...] = (),
) -> dict[str, int]:
    """Weights by name, and the bits that they are stored in; what is in fewer has a name that says
    so."""
    passes = ["allocate-sparsity", "insert-predictors", "quantize-weights"]
    lines = optimise(text, passes, Recipe("tiny", 0, choices, wider), dtype).splitlines()
    found = (line.split() for line in lines if "stored" in line)
    bits = {words[1].strip("@"): int(words[-1].strip("i}")) for words in found}
    assert all(n == 8 or name.endswith(f".in_{n}_bits") for name, n in bits.items())
    return {name.split(".in_")[0]: n for name, n in bits.items()}


def test_a_block_keeps_its_own_weights_in_fewer_bits() -> None:
    everywhere = dict.fromkeys(("q", "k", "v", "o", "mlp.gate", "mlp.up", "mlp.down"), 8)
    inputs = {"q": 6, "k": 6, "v": 6}
    assert stored({}) == everywhere
    assert stored({"attn": BOTH}) == everywhere | inputs | {"o": 6}
    assert stored({"attn": INPUTS}) == stored({"attn": INPUTS}, GATED) == everywhere | inputs
    assert stored({"attn": INPUTS}, TWICE) == everywhere | {"q": 6}
    assert stored({"attn": INPUTS}, APART) == everywhere | {"q": 6, "v": 6}
    assert stored({"attn": KEYS}) == everywhere | {"q": 5, "k": 6, "v": 6}
    assert stored({"attn": KEYS}, APART) == everywhere | {"q": 5, "v": 6}
    assert stored({"mlp": INPUTS}) == everywhere | {"mlp.gate": 6, "mlp.up": 6}
    assert stored({"attn": OUTPUTS, "mlp": OUTPUTS}) == everywhere | {"o": 6, "mlp.down": 6}
    fewer = {"mlp.gate": 4, "mlp.up": 4, "mlp.down": 5}
    assert stored({"mlp": Narrow(bits=4, output_bits=5)}) == everywhere | fewer


@pytest.mark.parametrize(
    ("problem", "given"),
    [
        ("attn: narrow needs weights in 8 bits: --dtype int8", {"dtype": Dtype.INT4}),
        ("attn: narrow needs weights in 8 bits: --dtype int8", {"dtype": Dtype.BF16}),
        (
            "attn: narrow needs weights in 8 bits, but q is in the recipe's wider",
            {"wider": ("q",)},
        ),
        (
            "attn: narrow needs weights of its own, but q is read elsewhere too",
            {"text": SHARED},
        ),
        (
            "attn: no linear alone reads its heads; output_bits: 8 would work",
            {"text": GATED},
        ),
    ],
)
def test_one_line_for_what_cannot_be(problem: str, given: dict[str, Any]) -> None:
    with pytest.raises(SparsecompError) as raised:
        stored({"attn": BOTH}, **given)
    assert str(raised.value) == problem


def test_keys_and_values_have_bits_of_their_own_where_there_are_linears_for_them() -> None:
    with pytest.raises(SparsecompError) as raised:
        stored({"mlp": KEYS})
    problem = "no linears give keys and values here; without key_value_bits it would work"
    assert str(raised.value) == f"mlp: {problem}"
    with pytest.raises(SparsecompError, match=f"attn: {problem}"):
        stored({"attn": KEYS}, TWICE)


def found(text: str = MODULE) -> tuple[AttentionBlock, MlpBlock, dict[str, tuple[int, ...]]]:
    module = parse(text)
    attention, mlp = blocks(function(module, "decode"))
    assert isinstance(attention, AttentionBlock) and isinstance(mlp, MlpBlock)
    return attention, mlp, weight_shapes(module)


def test_what_a_narrow_block_reads() -> None:
    attention, mlp, shapes = found()
    six, eight = (nibbles.row_bytes(64, bits) for bits in (6, 8))
    cost = BlockCost.of(mlp, shapes, Dtype.INT8)
    # A neuron: its rows of gate and up, and its column of down.
    assert cost.bytes(None) == 256 * 3 * eight
    assert cost.bytes(INPUTS) == 256 * (2 * six + eight)
    assert cost.bytes(OUTPUTS) == 256 * (2 * eight + six)
    cost = BlockCost.of(attention, shapes, Dtype.INT8)
    # 128 rows each of queries, keys and values, 128 columns of the output projection.
    assert cost.bytes(None) == 128 * 4 * eight
    assert cost.bytes(BOTH) == 128 * 4 * six
    assert cost.bytes(INPUTS) == 128 * (3 * six + eight)
    four, five = (nibbles.row_bytes(64, bits) for bits in (4, 5))
    assert cost.bytes(Narrow(bits=4, output_bits=5)) == 128 * (3 * four + five)
    own = Narrow(bits=4, output_bits=5, key_value_bits=6)
    assert cost.bytes(own) == 128 * (four + 2 * six + five)
    predicted = LowRank(rank=4, density=0.5, active=0.5)
    # A head that is left out has keys and values all the same.
    assert cost.bytes(predicted) == 128 * 3 * eight + cost.predictor_bytes(predicted)
    # It is read in order, without a list or a barrier.
    assert cost.cost(BOTH) == cost.bytes(BOTH)
    without = BlockCost.of(found(GATED)[0], shapes, Dtype.INT8)
    assert without.bytes(INPUTS) == 128 * 3 * six


def test_rows_too_short_to_gain() -> None:
    attention, mlp, shapes = found()
    assert has_long_rows(attention, shapes) and has_long_rows(mlp, shapes)
    few = shapes | {"mlp.down": (64, 24)}  # neurons
    assert not has_long_rows(mlp, few)
    assert not has_long_rows(attention, shapes | {"q": (128, 32)})
