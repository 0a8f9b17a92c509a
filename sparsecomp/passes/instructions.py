"""What a core takes for the instructions of a kernel over weights, in nanoseconds.

That much a kernel takes even where its weights lie in the nearest cache. How many bits a weight has
says more about it than how many bytes are read: fewer have to be unpacked all the same.
Measured on x86-64-v4, one core, 512 KB of weights over and over, rows of 384 to 2,048.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparsecomp import sketches
from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Layout
from sparsecomp.dialects.reads import weight_bytes, weights_of


@dataclass(frozen=True)
class Weight:
    """Nanoseconds of one weight: `multiplied` with an activation and summed along its row, or
    `added`, widened and weighed, to a row of sums."""

    multiplied: float
    added: float


WEIGHTS = {
    32: Weight(0.043, 0.053),
    16: Weight(0.034, 0.040),
    8: Weight(0.020, 0.066),
    6: Weight(0.025, 0.066),
    5: Weight(0.022, 0.066),
    4: Weight(0.016, 0.050),
}
"""By their bits."""
QUANTISED_ROW = 4.0
"""Of a row besides: its scales, its outlier, the sum of its lanes."""
SKETCHED = 0.008
"""Of a weight of a sketch, multiplied by activations of 8 bits."""


def computing(op: exec.Kernel) -> float:
    """What one worker would take for all of a kernel's weights; of chosen units, those expected."""
    storages = list(weights_of(op))
    whole = sum(storage.bytes for storage in storages)
    share = weight_bytes(op) / whole if whole else 0.0
    return share * sum(_storage(storage) for storage in storages)


def _storage(storage: exec.Storage) -> float:
    layout = storage.layout.data
    count, width = storage.rows
    if layout is Layout.FLOATS:
        return 0.0  # norms and biases: counted as elements
    if layout is Layout.SKETCH:
        return count * sketches.padded(width, storage.bits) * SKETCHED
    if layout is Layout.REFINEMENT:
        return count * len(sketches.refined_groups(width)) * sketches.LINE_AXES * SKETCHED
    weight = WEIGHTS[storage.bits]
    row = QUANTISED_ROW if storage.quantised else 0.0
    match layout:
        case Layout.COLUMNS:
            return count * (row + width * weight.added)
        case Layout.NEURON_MAJOR:
            neurons, inputs, outputs = storage.dims
            projections = len(storage.of) - 1
            multiplied = projections * (row + inputs * weight.multiplied)
            return neurons * (multiplied + row + outputs * weight.added)
        case _:
            return count * (row + width * weight.multiplied)
