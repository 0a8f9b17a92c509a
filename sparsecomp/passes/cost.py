"""What a block costs in a decode step on the target, dense and sparse.

A decode step is bound by the bytes it reads, so a cost is a number of bytes that the workers could
read in order in the same time: reads out of order count more, and a barrier or a list counts as
what could be read meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sparsecomp import nibbles
from sparsecomp.dialects import spz
from sparsecomp.options import Dtype
from sparsecomp.sparsity import Choice, Cutoff, Exact

from .blocks import Block, MlpBlock
from .quantize_weights import BITS

FLOAT = 4

# Measured by benchmarks/kernels.py on x86-64-v4, one core at 20 GB/s.
BARRIER = 20e3
"""Bytes read in order while the workers wait for each other once."""
LISTED = 900.0
"""Bytes read in order while the reader goes to one listed unit: it reads 1.5 KB neurons at 65 % of
the speed of reading in order, 8 KB neurons at 85 %."""
SCANNED = 4.0
"""Bytes read in order while a selection looks at one unit."""


def row_bytes(width: int, dtype: Dtype) -> int:
    """Bytes of a row of `width` weights as it is stored; a short one is not quantised."""
    wide = width * (4 if dtype is Dtype.F32 else 2)
    return min(wide, nibbles.row_bytes(width, BITS[dtype])) if dtype in BITS else wide


@dataclass(frozen=True)
class Unit:
    """The weights of a neuron or a head, in bytes: `rows` input rows of `row` bytes each (gate and
    up, up alone, a head's queries as one), and its columns of the output matrix."""

    row: int
    rows: int
    column: int

    @property
    def bytes(self) -> int:
        return self.rows * self.row + self.column

    @property
    def rest(self) -> int:
        """What is read after the first row has turned out not to be 0."""
        return self.bytes - self.row


@dataclass(frozen=True)
class BlockCost:
    """A block on a target: sizes from its weights' shapes, bytes as they are stored."""

    units: int
    inputs: int
    unit: Unit
    dtype: Dtype

    @staticmethod
    def of(block: Block, shapes: Mapping[str, tuple[int, ...]], dtype: Dtype) -> BlockCost:
        if isinstance(block, MlpBlock):
            units, inputs = shapes[block.op.up.string_value()]
            outputs = shapes[block.op.down.string_value()][0]
            rows = 2 if isinstance(block.op, spz.GatedMlp) else 1
            unit = Unit(row_bytes(inputs, dtype), rows, row_bytes(outputs, dtype))
            return BlockCost(units, inputs, unit, dtype)
        outputs, inputs = shapes[block.query.weight.string_value()]
        column = 0
        if block.output is not None:
            out, size = shapes[block.output.weight.string_value()]
            column = size // block.units * row_bytes(out, dtype)
        row = outputs // block.units * row_bytes(inputs, dtype)
        return BlockCost(block.units, inputs, Unit(row, 1, column), dtype)

    def predictor_bytes(self, choice: Choice) -> int:
        """Bytes of a low-rank predictor; 0 for other kinds."""
        if isinstance(choice, Cutoff):
            return 0
        down = choice.rank * row_bytes(self.inputs, self.dtype)
        up = self.units * row_bytes(choice.rank, self.dtype)
        return down + up + self.units * FLOAT

    def bytes(self, choice: Choice | None) -> float:
        """Expected bytes of weights that a token reads, the predictor's too; None: dense."""
        if choice is None:
            return float(self.units * self.unit.bytes)
        return self.predictor_bytes(choice) + self._in_order(choice) + self._listed(choice)

    def cost(self, choice: Choice | None) -> float:
        """The same as bytes read in order."""
        if choice is None:
            return self.bytes(None)
        barriers = 1 if isinstance(choice, Cutoff) else 2
        return (
            self.predictor_bytes(choice)
            + self._in_order(choice)
            + self._listed(choice)
            + self.units * choice.density * LISTED
            + self.units * SCANNED
            + barriers * BARRIER
        )

    def _in_order(self, choice: Choice) -> float:
        """Rows of all units, read to know what to skip."""
        if not isinstance(choice, Cutoff):
            return 0.0
        rows = 1 if choice.of is Exact.GATE else self.unit.rows
        return float(self.units * rows * self.unit.row)

    def _listed(self, choice: Choice) -> float:
        unit = self.unit
        if not isinstance(choice, Cutoff):
            return self.units * (choice.density * unit.row + choice.active * unit.rest)
        rest = unit.rest if choice.of is Exact.GATE else unit.column
        return self.units * choice.density * rest
