"""What a block costs in a decode step on the target, dense and sparse.

A decode step is bound by the bytes it reads, so a cost is a number of bytes that the workers could
read in order in the same time: reads out of order count more, and a barrier or a list counts as
what could be read meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sparsecomp import nibbles, sketches
from sparsecomp.dialects import spz
from sparsecomp.options import Dtype
from sparsecomp.sparsity import (
    FULL_BITS,
    Approximate,
    Cascade,
    Choice,
    Cutoff,
    Exact,
    LowRank,
    Narrow,
    Nested,
    Selective,
    Sketch,
)

from .blocks import Block, HeadBlock, MlpBlock
from .quantize_weights import BITS, CORRECTION_BITS, approximation_dtypes
from .sparsify_head import AXES_BITS

FLOAT = 4

# Measured by benchmarks/kernels.py on x86-64-v4, one core at 20 GB/s.
BARRIER = 20e3
"""Bytes read in order while the workers wait for each other once."""
LISTED = 900.0
"""Bytes read in order while the reader goes to one listed unit: it reads 1.5 KB neurons at 65 % of
the speed of reading in order, 8 KB neurons at 85 %."""
LISTED_FINE = 1450.0
"""The same of a neuron that is computed again, whose bytes lie in three places."""
LISTED_COARSE = 430.0
"""The same of a neuron of which only the high plane of its column of down is read."""
ADDED = 2.4
"""The same for a byte of a quantised column, widened to floats and added up: an MLP of which every
neuron is read multiplies rows instead, see choose-layouts."""
SCANNED = 4.0
"""Bytes read in order while a selection looks at one unit."""


def row_bytes(width: int, dtype: Dtype) -> int:
    """Bytes of a row of `width` weights as it is stored; a short one is not quantised."""
    wide = width * (4 if dtype is Dtype.F32 else 2)
    return min(wide, nibbles.row_bytes(width, BITS[dtype])) if dtype in BITS else wide


def low_bytes(width: int, dtype: Dtype) -> int:
    """Bytes of the low plane of a row; 0 where there is none."""
    return nibbles.low_bytes(width, BITS[dtype]) if dtype in BITS else 0


@dataclass(frozen=True)
class Unit:
    """The weights of a neuron, a head or a row of the vocabulary, in bytes: `rows` input rows of
    `row` bytes each (gate and up, up alone, a head's queries as one), and its columns of the output
    matrix. In 8 bits `low_row` and `low_column` of these are low planes."""

    row: int
    rows: int
    column: int
    low_row: int = 0
    low_column: int = 0

    @property
    def bytes(self) -> int:
        return self.rows * self.row + self.column

    @property
    def rest(self) -> int:
        """What is read after the first row has turned out not to be 0."""
        return self.bytes - self.row


@dataclass(frozen=True)
class BlockCost:
    """A block on a target: sizes from its weights' shapes, bytes as they are stored. `shared` is
    what is read whichever units are: an attention's rows of keys and values; `low_shared` of these
    are low planes."""

    units: int
    inputs: int
    unit: Unit
    dtype: Dtype
    shared: int = 0
    low_shared: int = 0

    @staticmethod
    def of(block: Block, shapes: Mapping[str, tuple[int, ...]], dtype: Dtype) -> BlockCost:
        if isinstance(block, MlpBlock):
            units, inputs = shapes[block.op.up.string_value()]
            outputs = shapes[block.op.down.string_value()][0]
            rows = 2 if isinstance(block.op, spz.GatedMlp) else 1
            low = [low_bytes(n, dtype) for n in (inputs, outputs)]
            unit = Unit(row_bytes(inputs, dtype), rows, row_bytes(outputs, dtype), *low)
            return BlockCost(units, inputs, unit, dtype)
        if isinstance(block, HeadBlock):
            units, inputs = shapes[block.op.weight.string_value()]
            return BlockCost(units, inputs, Unit(row_bytes(inputs, dtype), 1, 0), dtype)
        outputs, inputs = shapes[block.query.weight.string_value()]
        rows, columns, out = outputs // block.units, 0, 0
        if block.output is not None:
            out, size = shapes[block.output.weight.string_value()]
            columns = size // block.units
        row, low_row = (rows * of(inputs, dtype) for of in (row_bytes, low_bytes))
        column, low_column = (columns * of(out, dtype) for of in (row_bytes, low_bytes))
        unit = Unit(row, 1, column, low_row, low_column)
        beside = [op.weight.string_value() for op in (block.key, block.value) if op is not None]
        count = sum(shapes[name][0] for name in beside)
        shared = [count * of(inputs, dtype) for of in (row_bytes, low_bytes)]
        return BlockCost(block.units, inputs, unit, dtype, *shared)

    def predictor_bytes(self, choice: Selective) -> int:
        """Bytes of a predictor, an approximation, a correction or a sketch; 0 for a cutoff."""
        if isinstance(choice, Cutoff):
            return 0
        if isinstance(choice, Nested):
            basis = choice.rank * row_bytes(self.inputs, self.dtype)
            factors = nibbles.row_bytes(choice.rank, CORRECTION_BITS) if choice.rank else 0
            return basis + self.units * self.unit.rows * factors
        if isinstance(choice, Sketch):
            axes = (self.inputs + 1) * self._axes_row_bytes()
            return axes + sketches.sketch_bytes(self.units, self.inputs, choice.bits)
        if isinstance(choice, Approximate):
            return self._approximation_bytes(choice)
        down = choice.rank * row_bytes(self.inputs, self.dtype)
        up = self.units * row_bytes(choice.rank, self.dtype)
        return down + up + self.units * FLOAT

    def _approximation_bytes(self, choice: Approximate) -> int:
        basis, factors = approximation_dtypes(self.dtype)
        neuron = self.unit.rows * row_bytes(choice.rank, factors) + FLOAT
        return choice.rank * row_bytes(self.inputs, basis) + self.units * neuron

    def _axes_row_bytes(self) -> int:
        if self.dtype in BITS:
            return nibbles.row_bytes(self.inputs, AXES_BITS)
        return row_bytes(self.inputs, self.dtype)

    def bytes(self, choice: Choice | None) -> float:
        """Expected bytes of weights that a token reads, the predictor's too; None: dense."""
        if choice is None:
            return float(self.shared + self.units * self.unit.bytes)
        if isinstance(choice, Narrow):
            return float(self._narrow(choice))
        read = self.shared + self.predictor_bytes(choice)
        return read + self._in_order(choice) + self._listed(choice)

    def cost(self, choice: Choice | None) -> float:
        """The same as bytes read in order."""
        if choice is None or isinstance(choice, Narrow):
            return self.bytes(choice)
        barriers, lists, listed = 2, 1, choice.density * LISTED
        match choice:
            case Cascade():
                barriers, lists = 4, 2
                listed += choice.first_density * LISTED
            case Cutoff():
                barriers = 1
            case Nested():
                barriers, lists = 2 if choice.rank else 1, 2
                listed = choice.density * LISTED_FINE + choice.coarse * LISTED_COARSE
        return (
            self.shared
            + self.predictor_bytes(choice)
            + self._in_order(choice)
            + self._listed(choice, ADDED if self.dtype in BITS else 1.0)
            + self.units * listed
            + self.units * SCANNED * lists
            + barriers * BARRIER
        )

    def _narrow(self, choice: Narrow) -> int:
        """Bytes without the bits that are left out: low planes have those of HIGH_BITS too few."""
        unit, low = self.unit, FULL_BITS - nibbles.HIGH_BITS
        less = (
            self.units * unit.rows * unit.low_row * (FULL_BITS - choice.bits)
            + self.low_shared * (FULL_BITS - choice.bits_of_keys)
            + self.units * unit.low_column * (FULL_BITS - choice.output_bits)
        )
        return self.shared + self.units * unit.bytes - less // low

    def _in_order(self, choice: Selective) -> float:
        """Rows of all units, read to know what to skip."""
        if isinstance(choice, LowRank | Approximate | Sketch):
            return 0.0
        if isinstance(choice, Nested):
            return float(self.units * self.unit.rows * (self.unit.row - self.unit.low_row))
        rows = 1 if choice.of is Exact.GATE else self.unit.rows
        return float(self.units * rows * self.unit.row)

    def _listed(self, choice: Selective, added: float = 1.0) -> float:
        """Bytes of chosen units, where one of a column counts as `added` of them."""
        unit = self.unit
        column = unit.column * added
        if isinstance(choice, Nested):
            fine = unit.rows * unit.low_row + column
            coarse = (unit.column - unit.low_column) * added
            return self.units * (choice.density * fine + choice.coarse * coarse)
        if isinstance(choice, Sketch):
            read = choice.density * unit.row
            if isinstance(choice, Cascade):
                read += choice.first_density * sketches.refined_row_bytes(self.inputs)
            return self.units * read
        if not isinstance(choice, Cutoff):
            further = unit.rest - unit.column + column
            return self.units * (choice.density * unit.row + choice.active * further)
        rest = unit.rest - unit.column if choice.of is Exact.GATE else 0
        return self.units * choice.density * (rest + column)
