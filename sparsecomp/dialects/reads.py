"""Bytes of weights that a kernel reads in a decode step: read off its exec op."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from xdsl.dialects.builtin import MemRefType, SymbolRefAttr
from xdsl.ir import Operation

from sparsecomp import nibbles, sketches

from . import exec

FLOAT = 4
"""Bytes of an element of a bias."""


class Reading(Enum):
    """Which reads of a decode step are counted."""

    EXPECTED = auto()
    """All; of chosen units as many as calibration expects."""
    DENSE = auto()
    """All of a program that reads every block whole and predicts nothing."""
    FIXED = auto()
    """Those that do not depend on what is chosen."""


TABLES = ("table", "cos", "sin")
"""Properties that name a table, of which a token reads one row."""


def weights_of(op: Operation) -> Iterator[exec.Storage]:
    """The storages that a kernel, or a constant, reads, but for tables."""
    for name, value in op.properties.items():
        if isinstance(value, SymbolRefAttr) and name not in TABLES:
            yield exec.find_storage(op, value)


def tables_of(op: Operation) -> Iterator[exec.Storage]:
    """The tables of which a kernel reads a row."""
    for name in TABLES:
        if isinstance(value := op.properties.get(name), SymbolRefAttr):
            yield exec.find_storage(op, value)


def weight_bytes(op: Operation, reading: Reading = Reading.EXPECTED) -> float:
    """Bytes of weights that a kernel reads for one token, but for its tables."""
    match op:
        case exec.SparseMlp() | exec.SparseLinear() | exec.SparseHead() if reading is Reading.FIXED:
            return 0
        case exec.Refine():
            rows = op.density.value.data * exec.shape_of(op.out)[1]
            return rows * refined_bytes(op) if reading is Reading.EXPECTED else 0
        case exec.SparseMlp():
            chosen, further = neuron_bytes(op)
            share = op.density.value.data * chosen + op.active.value.data * further
            if op.rest_density is not None:
                share += op.rest_density.value.data * coarse_bytes(op)
            return _neuron(op).count * share
        case exec.SparseLinear() if reading is Reading.EXPECTED:
            return op.density.value.data * op.blocks.value.data * block_bytes(op)
        case exec.Neurons() if op.approximate:
            return sum(storage.bytes for storage in weights_of(op))
        case exec.Neurons() if op.coarse is not None:
            high, *_ = exec.find_storage(op, op.weights).sheets
            correction, neuron = correction_of(op), _neuron(op)
            added = 0 if correction is None else correction.bytes
            return neuron.count * (high + neuron.biases) + added
        case exec.SparseHead() if reading is Reading.EXPECTED:
            return op.density.value.data * exec.shape_of(op.out)[1] * block_bytes(op)
        case exec.Neurons():  # gates alone, or all but the columns of down
            neuron = _neuron(op)
            return neuron.count * (neuron.first + (neuron.up if op.gate_only is None else 0))
        case exec.ExpertLinear():  # the chosen experts alone
            return sum(s.bytes // s.dims[0] * _choices(op) for s in weights_of(op))
        case _:
            return sum(storage.bytes for storage in weights_of(op))


def places_read(ops: Iterable[Operation]) -> list[tuple[int, int]]:
    """Where a token's weights begin and end in the artifact, in bytes, in order, neighbours joined.

    Of a storage that is read in part its first bytes stand for those chosen; tables do not count.
    """
    found: dict[int, float] = {}
    for op in ops:
        storages = list(weights_of(op))
        whole = sum(storage.bytes for storage in storages)
        for storage in storages:
            assert storage.offset is not None
            begin, share = storage.offset.value.data, weight_bytes(op) / whole
            found[begin] = max(found.get(begin, 0), min(share, 1.0) * storage.bytes)
    joined: list[tuple[int, int]] = []
    for begin, size in sorted(found.items()):
        end = begin + int(size)
        if joined and begin - joined[-1][1] < exec.LINE:  # but for padding
            begin, _ = joined.pop()
        joined.append((begin, end))
    return joined


@dataclass(frozen=True)
class _Neuron:
    """Bytes of one neuron of an MLP, each with its bias: its `first` row (the gate's, or up's where
    there is no gate), the row of `up` behind a gate, the column of `down`."""

    count: int
    first: int
    up: int
    down: int
    biases: int


def coarse_bytes(op: exec.SparseMlp) -> int:
    """The high plane of a neuron's column of down."""
    return exec.find_storage(op, op.weights).sheets[1]


def _neuron(op: exec.SparseMlp | exec.Neurons) -> _Neuron:
    storage = exec.find_storage(op, op.weights)
    gate_bias = 0 if op.gate_bias is None else FLOAT
    up_bias = 0 if op.up_bias is None else FLOAT
    if op.gated is None:
        up, down = storage.part_bytes
        return _Neuron(storage.dims[0], up + up_bias, 0, down, up_bias)
    gate, up, down = storage.part_bytes
    biases = gate_bias + up_bias
    return _Neuron(storage.dims[0], gate + gate_bias, up + up_bias, down, biases)


def neuron_bytes(op: exec.SparseMlp) -> tuple[int, int]:
    """What a chosen neuron costs, and what more when it is read beyond its first product."""
    neuron = _neuron(op)
    if op.rest is not None:  # the high planes of its rows, and biases, have been read before
        storage = exec.find_storage(op, op.weights)
        low = nibbles.low_bytes(storage.dims[1], storage.bits)
        return low, (low if op.gated is not None else 0) + neuron.down
    if op.values is None:
        return neuron.first, neuron.up + neuron.down
    return (neuron.up if op.gate_known is not None else 0) + neuron.down, 0


def block_bytes(op: exec.SparseLinear | exec.SparseHead) -> int:
    """Bytes of one block (of a head, or a row of the vocabulary) of a weight, with its bias."""
    blocks = op.blocks.value.data if isinstance(op, exec.SparseLinear) else exec.shape_of(op.out)[1]
    return sum(storage.bytes for storage in weights_of(op)) // blocks


def refined_bytes(op: exec.Refine) -> int:
    """Bytes of one row of a refinement."""
    return sketches.refined_row_bytes(exec.find_storage(op, op.rows).dims[1])


def correction_of(op: Operation) -> exec.Storage | None:
    """What corrects coarse neurons."""
    if isinstance(op, exec.Neurons) and op.correction is not None:
        return exec.find_storage(op, op.correction)
    return None


def _choices(op: exec.ExpertLinear) -> int:
    """How many experts a token chooses."""
    assert isinstance(op.experts.type, MemRefType)
    return math.prod(op.experts.type.get_shape())
