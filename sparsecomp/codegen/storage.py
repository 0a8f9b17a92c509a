"""Weights as bytes, laid out as their storage says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from xdsl.dialects.builtin import BFloat16Type

from sparsecomp.dialects import exec
from sparsecomp.errors import SparsecompError

Weights = Callable[[str], torch.Tensor]


def storage_bytes(storage: exec.Storage, weights: Weights) -> memoryview:
    """The bytes of a storage; reads each of its weights once, and keeps none.

    Raises SparsecompError when a weight has not the size that the program was compiled for.
    """
    element = torch.bfloat16 if isinstance(storage.element, BFloat16Type) else torch.float32
    names = [symbol.string_value() for symbol in storage.of]
    if storage.layout.data is exec.Layout.NEURON_MAJOR:
        packed = _neuron_major(storage, [weights(name) for name in names], element)
    else:
        weight = weights(names[0])
        by_columns = storage.layout.data is exec.Layout.COLUMNS
        packed = (weight.T if by_columns else weight).to(element).contiguous()
    data = packed.flatten().view(torch.uint8)
    if data.numel() != storage.bytes:
        raise SparsecompError(
            f"weight {names[0]}: takes {data.numel()} bytes, the program expects {storage.bytes}"
        )
    return data.numpy().data


def _neuron_major(
    storage: exec.Storage, parts: list[torch.Tensor], element: torch.dtype
) -> torch.Tensor:
    """(neurons, elements of one neuron): rows of (gate,) up, columns of down, each padded."""
    widths = [size // storage.item for size in storage.part_bytes]
    packed = torch.zeros(storage.dims[0], sum(widths), dtype=element)
    start = 0
    for part, width in zip((*parts[:-1], parts[-1].T), widths, strict=True):
        packed[:, start : start + part.shape[1]] = part
        start += width
    return packed
