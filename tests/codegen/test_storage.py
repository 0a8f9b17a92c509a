"""Weights as bytes: what lies where."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    IntegerType,
    StringAttr,
    SymbolRefAttr,
    bf16,
    f32,
    i64,
)

from sparsecomp.codegen.storage import storage_bytes
from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import LINE, Layout
from sparsecomp.errors import SparsecompError
from sparsecomp.nibbles import Order
from sparsecomp.rounding import planes, rounded


def storage(
    layout: Layout,
    shape: Sequence[int],
    of: Sequence[str],
    *,
    narrow: bool = False,
    bits: int | None = None,
) -> exec.Storage:
    element = bf16 if narrow else f32
    return exec.Storage.create(
        properties={
            "sym_name": StringAttr("weights"),
            "layout": exec.LayoutAttr(layout),
            "element": element if bits is None else IntegerType(bits),
            "shape": DenseArrayBase.from_list(i64, list(shape)),
            "of": ArrayAttr([SymbolRefAttr(name) for name in of]),
        }
    )


def numbers(*shape: int) -> torch.Tensor:
    """Numbers that bf16 holds exactly, none 0."""
    return (torch.arange(math.prod(shape)) % 251 + 1).float().reshape(shape)


def test_rows_lie_in_order() -> None:
    weight = numbers(6, 5)
    data = storage_bytes(storage(Layout.ROWS, (6, 5), ["w"]), {"w": weight}.__getitem__)
    assert bytes(data) == weight.numpy().tobytes()


def test_bf16_is_rounded_to_nearest_even() -> None:
    # Between 1 and the next bf16 above it (1 + 2^-7): halfway goes to the even one.
    weight = torch.tensor([1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-7])
    stored = storage(Layout.FLOATS, (4,), ["w"], narrow=True)
    data = np.frombuffer(storage_bytes(stored, {"w": weight}.__getitem__), np.uint16)
    assert data.tolist() == [0x3F80, 0x3F80, 0x3F82, 0x3F81]


def test_a_transposed_weight_lies_in_order_too() -> None:
    weight = numbers(5, 6)
    stored = storage(Layout.ROWS, (6, 5), ["w"])
    data = storage_bytes(stored, lambda name: weight.T)
    assert bytes(data) == weight.T.contiguous().numpy().tobytes()


@pytest.mark.parametrize("bits", [32, 4])
def test_rows_of_two_lie_in_turn(bits: int) -> None:
    weights = {"gate": numbers(3, 70), "up": -numbers(3, 70)}
    both = torch.stack([weights["gate"], weights["up"]], 1).view(6, 70)
    how = {} if bits == 32 else {"bits": bits}
    two = storage(Layout.ROWS, (6, 70), ["gate", "up"], **how)
    one = storage(Layout.ROWS, (6, 70), ["both"], **how)
    expected = bytes(storage_bytes(one, {"both": both}.__getitem__))
    assert bytes(storage_bytes(two, weights.__getitem__)) == expected


@pytest.mark.parametrize("narrow", [False, True])
def test_columns_lie_one_after_another(narrow: bool) -> None:
    weight = numbers(6, 5)
    stored = storage(Layout.COLUMNS, (6, 5), ["w"], narrow=narrow)
    bits = weight.T.contiguous().numpy().view(np.uint32)
    expected = (bits >> 16).astype(np.uint16) if narrow else bits
    assert bytes(storage_bytes(stored, {"w": weight}.__getitem__)) == expected.tobytes()


@given(
    neurons=st.integers(1, 9),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    gated=st.booleans(),
    narrow=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_neuron_major(neurons: int, inputs: int, outputs: int, gated: bool, narrow: bool) -> None:
    """Of each neuron its rows, then its column, each from a cache line on, zeros between."""
    weights = {
        "gate": numbers(neurons, inputs),
        "up": -numbers(neurons, inputs),
        "down": 2 * numbers(outputs, neurons),
    }
    of = ["gate", "up", "down"] if gated else ["up", "down"]
    stored = storage(Layout.NEURON_MAJOR, (neurons, inputs, outputs), of, narrow=narrow)
    expected = bytearray()
    for neuron in range(neurons):
        for name in of:
            part = weights[name][:, neuron] if name == "down" else weights[name][neuron]
            bits = part.numpy().view(np.uint32)
            raw = (bits >> 16).astype(np.uint16).tobytes() if narrow else bits.tobytes()
            expected += raw + bytes(-len(raw) % LINE)
    assert len(expected) == stored.bytes
    assert bytes(storage_bytes(stored, weights.__getitem__)) == expected


def lines(sheet: bytes) -> bytes:
    return sheet + bytes(-len(sheet) % LINE)


def sheet(*parts: torch.Tensor) -> bytes:
    """The parts of each row side by side, row after row."""
    return torch.cat(parts, 1).numpy().tobytes()


@pytest.mark.parametrize("layout", [Layout.ROWS, Layout.COLUMNS])
@pytest.mark.parametrize("bits", [8, 6, 5, 4])
def test_quantised_rows(layout: Layout, bits: int) -> None:
    """The high planes of all rows, then the low ones."""
    weight = torch.randn(7, 70, generator=torch.Generator().manual_seed(0))
    stored = storage(layout, (7, 70), ["w"], bits=bits)
    by_columns = layout is Layout.COLUMNS
    order = Order.PLAIN if by_columns else Order.SPREAD
    high, low = planes(rounded(weight.T if by_columns else weight, bits), order)
    expected = lines(sheet(high)) + lines(sheet(low))
    assert len(expected) == stored.bytes
    assert bytes(storage_bytes(stored, {"w": weight}.__getitem__)) == expected


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("bits", [8, 6, 5, 4])
def test_quantised_neurons(gated: bool, bits: int) -> None:
    """The high planes of all neurons' rows, those of their columns, then the low planes."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        "gate": torch.randn(5, 70, generator=generator),
        "up": torch.randn(5, 70, generator=generator),
        "down": torch.randn(40, 5, generator=generator),
    }
    rows = ["gate", "up"] if gated else ["up"]
    stored = storage(Layout.NEURON_MAJOR, (5, 70, 40), [*rows, "down"], bits=bits)
    split = [planes(rounded(weights[name], bits), Order.SPREAD) for name in rows]
    high, low = planes(rounded(weights["down"].T, bits), Order.PLAIN)
    first = sheet(*(h for h, _ in split))
    sheets = [first, sheet(high)]
    if bits > 4:
        sheets.append(sheet(*(plane for _, plane in split), low))
    whole = b"".join(map(lines, sheets))
    assert len(whole) == stored.bytes
    assert bytes(storage_bytes(stored, weights.__getitem__)) == whole
    assert sum(stored.part_bytes) * 5 == sum(map(len, sheets))


def test_a_weight_of_another_size() -> None:
    stored = storage(Layout.ROWS, (6, 5), ["model.w"])
    with pytest.raises(SparsecompError, match=r"weight model\.w: takes 80 bytes.* expects 120"):
        storage_bytes(stored, lambda name: numbers(4, 5))
