"""Weights as bytes, laid out as their storage says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import to_lines
from sparsecomp.errors import SparsecompError
from sparsecomp.nibbles import Order
from sparsecomp.rounding import Rounded, planes, rounded
from sparsecomp.sketch_rounding import (
    packed_refinement,
    packed_sketch,
    rounded_cascade,
    rounded_sketch,
)

Weights = Callable[[str], torch.Tensor]


def storage_bytes(storage: exec.Storage, weights: Weights) -> memoryview:
    """The bytes of a storage; reads each of its weights once, and keeps none.

    Raises SparsecompError when a weight has not the size that the program was compiled for.
    """
    parts = [weights(symbol.string_value()) for symbol in storage.of]
    names = [symbol.string_value() for symbol in storage.of]
    neuron_major = storage.layout.data is exec.Layout.NEURON_MAJOR
    if neuron_major or storage.layout.data is exec.Layout.COLUMNS:
        parts[-1] = parts[-1].T
    if storage.layout.data is exec.Layout.ROWS and len(parts) > 1:
        parts = [torch.stack(parts, 1).flatten(0, 1)]  # of each a row in turn
    if storage.layout.data is exec.Layout.SKETCH:
        rows, bias = parts
        packed = packed_sketch(rounded_sketch(rows, storage.bits), bias)
    elif storage.layout.data is exec.Layout.REFINEMENT:
        (rows,) = parts
        _, refinement = rounded_cascade(rows)
        packed = packed_refinement(refinement)
    elif storage.quantised:
        packed = _sheets(storage, [rounded(_rows(part), storage.bits) for part in parts])
    elif neuron_major:
        packed = _neuron_major(storage, parts)
    else:
        packed = parts[0].to(_element(storage)).contiguous()
    data = packed.flatten().view(torch.uint8)
    if data.numel() != storage.bytes:
        raise SparsecompError(
            f"weight {names[0]}: takes {data.numel()} bytes, the program expects {storage.bytes}"
        )
    return data.numpy().data


def stored_dtype(storage: exec.Storage) -> str:
    """What safetensors calls the type of a storage."""
    return "U8" if storage.quantised else "BF16" if storage.bits == 16 else "F32"


def stored_shape(storage: exec.Storage) -> tuple[int, ...]:
    """The shape of a storage in safetensors: of what is quantised its bytes."""
    if storage.quantised:
        return (storage.bytes,)
    if storage.layout.data is exec.Layout.NEURON_MAJOR:
        return storage.dims[0], sum(storage.part_bytes) * 8 // storage.bits
    if storage.layout.data is exec.Layout.COLUMNS:
        return storage.dims[::-1]
    return storage.dims


def _element(storage: exec.Storage) -> torch.dtype:
    return torch.bfloat16 if storage.bits == 16 else torch.float32


def _rows(weight: torch.Tensor) -> torch.Tensor:
    return weight.reshape(-1, weight.shape[-1])


def _neuron_major(storage: exec.Storage, parts: list[torch.Tensor]) -> torch.Tensor:
    """(neurons, elements of one neuron): rows of (gate,) up, columns of down, each padded."""
    element = _element(storage)
    widths = [size // element.itemsize for size in storage.part_bytes]
    packed = torch.zeros(storage.dims[0], sum(widths), dtype=element)
    start = 0
    for part, width in zip(parts, widths, strict=True):
        packed[:, start : start + part.shape[1]] = part
        start += width
    return packed


def _sheets(storage: exec.Storage, parts: list[Rounded]) -> torch.Tensor:
    """The sheets one behind the other, each from a line on. neuron_major: the high planes of the
    rows, those of the columns, all low planes."""
    neuron_major = storage.layout.data is exec.Layout.NEURON_MAJOR
    added = storage.layout.data is exec.Layout.COLUMNS
    orders = [Order.PLAIN if added else Order.SPREAD] * len(parts)
    if neuron_major:
        orders[-1] = Order.PLAIN
    high, low = zip(*map(planes, parts, orders), strict=True)
    if neuron_major:
        sheets = [torch.cat(high[:-1], 1), high[-1], torch.cat(low, 1)]
    else:
        sheets = [high[0], low[0]]
    flat = (sheet.flatten() for sheet in sheets)
    return torch.cat([F.pad(sheet, (0, to_lines(len(sheet)) - len(sheet))) for sheet in flat])
