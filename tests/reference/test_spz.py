"""Each spz op against its definition, written out for one token or one head."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.parser import Parser

from sparsecomp.dialects import context
from sparsecomp.dialects.spz.attributes import Act
from sparsecomp.errors import SparsecompError
from sparsecomp.reference.interpreter import Interpreter
from sparsecomp.reference.spz import ACTS, KVCache


def run(
    signature: str,
    op: str,
    *arguments: torch.Tensor | KVCache,
    **weights: torch.Tensor,
) -> torch.Tensor:
    """The result of one op in a function with the given arguments."""
    return function(signature, op, weights).run("f", *arguments)[0]


def function(signature: str, op: str, weights: Mapping[str, torch.Tensor]) -> Interpreter:
    result = op.rpartition("-> ")[2]
    declarations = "\n".join(
        f"aten.weight @{n} : tensor<{'x'.join(map(str, w.shape))}xf32>" for n, w in weights.items()
    )
    text = (
        f"{declarations}\nfunc.func @f({signature}) -> {result} "
        f"{{\n%r = {op}\nfunc.return %r : {result}\n}}"
    )
    return Interpreter(Parser(context(), text).parse_module(), weights.__getitem__, positions=32)


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_embed() -> None:
    table = rand(5, 2)
    out = run(
        "%i: tensor<?xi64>",
        "spz.embed %i, @t : tensor<?xi64> -> tensor<?x2xf32>",
        torch.tensor([4, 0, 4]),
        t=table,
    )
    assert torch.equal(out, torch.stack([table[4], table[0], table[4]]))


def test_rms_norm() -> None:
    x, w = rand(2, 4), rand(4)
    out = run(
        "%x: tensor<?x4xf32>",
        "spz.rms_norm %x, @w {eps = 0.5 : f64} : tensor<?x4xf32> -> tensor<?x4xf32>",
        x,
        w=w,
    )
    torch.testing.assert_close(out, x / (x.square().mean(-1, keepdim=True) + 0.5).sqrt() * w)


def test_layer_norm() -> None:
    x, w, b = rand(2, 4), rand(4), rand(4) + 1
    out = run(
        "%x: tensor<?x4xf32>",
        "spz.layer_norm %x {eps = 0.5 : f64, weight = @w, bias = @b} : "
        "tensor<?x4xf32> -> tensor<?x4xf32>",
        x,
        w=w,
        b=b,
    )
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 0.5).sqrt() * w + b
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("name", ["linear", "lm_head"])
def test_linear(name: str) -> None:
    x, w, b = rand(3, 4), rand(2, 4), rand(2)
    out = run(
        "%x: tensor<?x4xf32>",
        f"spz.{name} %x, @w, @b : tensor<?x4xf32> -> tensor<?x2xf32>",
        x,
        w=w,
        b=b,
    )
    torch.testing.assert_close(out, x @ w.T + b)


@pytest.mark.parametrize(
    ("pairing", "partner"), [("half", [2, 3, 0, 1]), ("interleaved", [1, 0, 3, 2])]
)
def test_rope(pairing: str, partner: list[int]) -> None:
    x, cos, sin = rand(2, 3, 6), rand(8, 4), rand(8, 4) + 1
    positions = torch.tensor([7, 2])
    out = run(
        "%x: tensor<?x3x6xf32>, %p: tensor<?xi64>",
        f"spz.rope %x, %p, @cos, @sin {{rotary = 4 : i64, pairing = #spz.pairing {pairing}}} : "
        "tensor<?x3x6xf32>, tensor<?xi64> -> tensor<?x3x6xf32>",
        x,
        positions,
        cos=cos,
        sin=sin,
    )
    for t, p in enumerate(positions):
        for head in range(3):
            for i in range(4):
                expected = cos[p, i] * x[t, head, i] + sin[p, i] * x[t, head, partner[i]]
                torch.testing.assert_close(out[t, head, i], expected)
    assert torch.equal(out[..., 4:], x[..., 4:])


def test_rope_of_a_single_row_of_elements() -> None:
    x, cos, sin = rand(2, 4), rand(8, 4), rand(8, 4) + 1
    out = run(
        "%x: tensor<?x4xf32>, %p: tensor<?xi64>",
        "spz.rope %x, %p, @cos, @sin {rotary = 4 : i64, pairing = #spz.pairing half} : "
        "tensor<?x4xf32>, tensor<?xi64> -> tensor<?x4xf32>",
        x,
        torch.tensor([5, 6]),
        cos=cos,
        sin=sin,
    )
    torch.testing.assert_close(out, cos[5:7] * x + sin[5:7] * x[:, [2, 3, 0, 1]])


# ---- attention ----

HEADS, GROUPS, KEY, VALUE = 4, 2, 3, 5


def attend_one(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    options: Mapping[str, float],
    slope: float,
    sink: float | None,
) -> torch.Tensor:
    """One head's last row by the definition: q (D), k (n, D), v (n, E)."""
    p = len(k) - 1
    window, chunk = options.get("window", math.inf), int(options.get("chunk", p + 1))
    weights = []
    for j in range(p + 1):
        logit = 0.7 * float(q @ k[j])
        if "softcap" in options:
            logit = options["softcap"] * math.tanh(logit / options["softcap"])
        seen = j > p - window and j // chunk == p // chunk
        weights.append(math.exp(logit + slope * (j - p)) if seen else 0.0)
    total = sum(weights) + (math.exp(sink) if sink is not None else 0.0)
    return torch.tensor(weights) @ v / total


@settings(max_examples=30, deadline=None)
@given(
    tokens=st.integers(1, 9),
    window=st.none() | st.integers(1, 10),
    chunk=st.none() | st.integers(1, 10),
    softcap=st.none() | st.sampled_from([0.5, 30.0]),
    slopes=st.booleans(),
    sinks=st.booleans(),
    split=st.integers(0, 8),
)
def test_attention_with_and_without_a_cache(
    tokens: int,
    window: int | None,
    chunk: int | None,
    softcap: float | None,
    slopes: bool,
    sinks: bool,
    split: int,
) -> None:
    q, k, v = rand(tokens, HEADS, KEY), rand(tokens, GROUPS, KEY), rand(tokens, GROUPS, VALUE)
    weights = {"slopes": rand(HEADS)} if slopes else {}
    weights |= {"sinks": rand(HEADS) + 1} if sinks else {}
    asked = {"window": window, "chunk": chunk, "softcap": softcap}
    options = {n: value for n, value in asked.items() if value is not None}
    attributes = ", ".join(
        [
            "scale = 0.7 : f64",
            *(f"{n} = {x} : {'f64' if n == 'softcap' else 'i64'}" for n, x in options.items()),
            *(f"{n} = @{n}" for n in weights),
        ]
    )
    types = (
        f"tensor<?x{HEADS}x{KEY}xf32>, tensor<?x{GROUPS}x{KEY}xf32>, tensor<?x{GROUPS}x{VALUE}xf32>"
    )
    names = [f"%{n}: {t}" for n, t in zip("qkv", types.split(", "), strict=True)]
    result = f"tensor<?x{HEADS}x{VALUE}xf32>"

    whole = run(
        ", ".join(names),
        f"spz.attention %q, %k, %v {{{attributes}}} : {types} -> {result}",
        q,
        k,
        v,
        **weights,
    )
    for head in range(HEADS):
        group = head * GROUPS // HEADS
        expected = attend_one(
            q[-1, head],
            k[:, group],
            v[:, group],
            options,
            float(weights["slopes"][head]) if slopes else 0.0,
            float(weights["sinks"][head]) if sinks else None,
        )
        torch.testing.assert_close(whole[-1, head], expected, rtol=1e-4, atol=1e-5)

    cached = function(
        ", ".join([*names, "%p: tensor<?xi64>", "%c: !spz.kv_cache"]),
        f"spz.cached_attention %q, %k, %v, %p, %c {{slot = 3 : i64, {attributes}}} : "
        f"{types}, tensor<?xi64> -> {result}",
        weights,
    )
    cache, positions = KVCache(), torch.arange(tokens)
    at = min(split, tokens)
    # A rejected continuation, written past the split and then overwritten, must leave no trace.
    stale = torch.arange(at, at + 3)
    parts = [
        cached.run("f", q[:at], k[:at], v[:at], positions[:at], cache)[0] if at else whole[:0],
        cached.run(
            "f", rand(3, HEADS, KEY), rand(3, GROUPS, KEY), rand(3, GROUPS, VALUE), stale, cache
        )[0][:0],
        cached.run("f", q[at:], k[at:], v[at:], positions[at:], cache)[0]
        if at < tokens
        else whole[:0],
    ]
    torch.testing.assert_close(torch.cat(parts), whole)


# ---- mlps ----


@pytest.mark.parametrize("act", Act)
def test_mlps(act: Act) -> None:
    x, gate, up, down = rand(2, 3), rand(5, 3), rand(5, 3) + 0.1, rand(4, 5)
    biases = {"gb": rand(5), "ub": rand(5) + 1, "db": rand(4)}
    plain = run(
        "%x: tensor<?x3xf32>",
        f"spz.mlp %x, @u, @d {{act = #spz.act {act}, up_bias = @ub, down_bias = @db}} : "
        "tensor<?x3xf32> -> tensor<?x4xf32>",
        x,
        u=up,
        d=down,
        **biases,
    )
    hidden = ACTS[act](x @ up.T + biases["ub"])
    torch.testing.assert_close(plain, hidden @ down.T + biases["db"])
    gated = run(
        "%x: tensor<?x3xf32>",
        f"spz.gated_mlp %x, @g, @u, @d {{act = #spz.act {act}, gate_bias = @gb}} : "
        "tensor<?x3xf32> -> tensor<?x4xf32>",
        x,
        g=gate,
        u=up,
        d=down,
        **biases,
    )
    hidden = ACTS[act](x @ gate.T + biases["gb"]) * (x @ up.T)
    torch.testing.assert_close(gated, hidden @ down.T)


@pytest.mark.parametrize(
    ("act", "at_one", "at_minus_two"),
    [
        (Act.RELU, 1.0, 0.0),
        (Act.RELU2, 1.0, 0.0),
        (Act.SILU, 0.7310586, -0.2384058),
        (Act.GELU_ERF, 0.8413447, -0.0455003),
        (Act.GELU_TANH, 0.8411920, -0.0454023),
        (Act.QUICK_GELU, 1 / (1 + math.exp(-1.702)), -2 / (1 + math.exp(3.404))),
        (Act.SIGMOID, 0.7310586, 0.1192029),
        (Act.TANH, 0.7615942, -0.9640276),
        (Act.IDENTITY, 1.0, -2.0),
    ],
)
def test_activations(act: Act, at_one: float, at_minus_two: float) -> None:
    expected = torch.tensor([at_one, at_minus_two])
    torch.testing.assert_close(ACTS[act](torch.tensor([1.0, -2.0])), expected, atol=1e-6, rtol=0)


def test_squared_relu() -> None:
    assert ACTS[Act.RELU2](torch.tensor([3.0, -3.0])).tolist() == [9.0, 0.0]


def test_last() -> None:
    x = rand(3, 2)
    out = run("%x: tensor<?x2xf32>", "spz.last %x : tensor<?x2xf32> -> tensor<1x2xf32>", x)
    assert torch.equal(out, x[2:])


# ---- functions ----


def test_aten_and_spz_mix_on_rows() -> None:
    x = rand(3, 2)
    text = """
    func.func @f(%x: tensor<?x2xf32>) -> tensor<1x2xf32> {
      %y = aten.mul.Scalar(%x, other = 2) : (tensor<?x2xf32>) -> tensor<?x2xf32>
      %z = aten.reshape(%y, shape = [s, 2]) : (tensor<?x2xf32>) -> tensor<?x2xf32>
      %r = spz.last %z : tensor<?x2xf32> -> tensor<1x2xf32>
      func.return %r : tensor<1x2xf32>
    }
    """
    interpreter = Interpreter(Parser(context(), text).parse_module(), lambda _: rand(1), 8)
    assert torch.equal(interpreter.run("f", x)[0], 2 * x[2:])
    with pytest.raises(SparsecompError, match="no function @g"):
        interpreter.run("g", x)
    with pytest.raises(ValueError, match="@f takes 1 arguments"):
        interpreter.run("f")


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(SparsecompError, match=r"^op spz\.linear: mat1 and mat2"):
        run(
            "%x: tensor<?x4xf32>",
            "spz.linear %x, @w : tensor<?x4xf32> -> tensor<?x2xf32>",
            rand(3, 5),
            w=rand(2, 4),
        )
