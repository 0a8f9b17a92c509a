"""What weights and caches lie in: declarations of a module."""

from __future__ import annotations

import math
from enum import auto

from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    DenseArrayBase,
    IntegerType,
    ModuleOp,
    SymbolNameConstraint,
    SymbolRefAttr,
)
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import Operation, SpacedOpaqueSyntaxAttribute, TypeAttribute
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_attr_definition,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    traits_def,
)
from xdsl.traits import SymbolOpInterface
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from sparsecomp import nibbles, sketches
from sparsecomp.dialects.spz.attributes import I64

LINE = 64
"""Bytes of a cache line: parts of a neuron start on one."""


def to_lines(size: int) -> int:
    """Bytes, rounded up to whole lines."""
    return math.ceil(size / LINE) * LINE


class Layout(StrEnum):
    """How the tensors of a storage lie in memory."""

    ROWS = auto()
    """One matrix, row by row, in the storage type; of two of one shape a row of the first, then
    one of the second. Of quantised rows first the high planes of all rows, then the low ones (see
    nibbles.py)."""
    COLUMNS = auto()
    """One matrix, column by column: its transpose row by row, in the storage type."""
    NEURON_MAJOR = auto()
    """The rows of (gate,) up and the columns of down that belong to one neuron, side by side.
    Quantised, first the high planes of all neurons' rows, then those of their columns, then each
    neuron's low planes side by side: the high planes are a copy of the MLP in 4 bits."""
    SKETCH = auto()
    """The rows of a sketch and their biases; an element is a coarse weight (see sketches.py)."""
    REFINEMENT = auto()
    """What the first sketch of a cascade leaves of its rows."""
    FLOATS = auto()
    """f32 in order: norms, biases, tables."""


@irdl_attr_definition
class LayoutAttr(EnumAttribute[Layout], SpacedOpaqueSyntaxAttribute):
    name = "exec.layout"


@irdl_op_definition
class Storage(IRDLOperation):
    """Weights as they lie in the artifact: `offset` is in bytes from the first weight."""

    name = "exec.storage"
    sym_name = prop_def(SymbolNameConstraint())
    layout = prop_def(LayoutAttr)
    element = prop_def(TypeAttribute)
    shape = prop_def(DenseArrayBase)
    """rows, columns: (N, K), of all matrices. neuron_major: (neurons, inputs, outputs). floats: the
    tensor's own."""
    of = prop_def(ArrayAttr[SymbolRefAttr])
    """The weights in it; neuron_major: (gate,) up, down; sketch: rows, bias; refinement: rows."""
    offset = opt_prop_def(I64)
    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(SymbolOpInterface())
    assembly_format = "$sym_name attr-dict"

    @property
    def dims(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.shape.get_values())

    @property
    def bits(self) -> int:
        """Of an element; 8 and less are quantised."""
        if isinstance(self.element, IntegerType):
            return self.element.width.data
        return 16 if isinstance(self.element, BFloat16Type) else 32

    @property
    def quantised(self) -> bool:
        return self.bits <= 8

    @property
    def rows(self) -> tuple[int, int]:
        """How many rows lie in it, and the weights of each; neuron_major has three kinds."""
        dims = self.dims[::-1] if self.layout.data is Layout.COLUMNS else self.dims
        return math.prod(dims[:-1]), math.prod(dims[-1:])

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` weights, scales included."""
        if self.quantised:
            return nibbles.row_bytes(width, self.bits)
        return width * self.bits // 8

    @property
    def sheets(self) -> tuple[int, ...]:
        """Of quantised weights: bytes that each row, or neuron, has in each of the sheets that lie
        one behind the other."""
        if self.layout.data is Layout.NEURON_MAJOR:
            _, inputs, outputs = self.dims
            projected = len(self.of) - 1
            sheets = projected * nibbles.high_bytes(inputs), nibbles.high_bytes(outputs)
            inner, outer = (nibbles.low_bytes(n, self.bits) for n in (inputs, outputs))
            low = projected * inner + outer
            return (*sheets, low) if low else sheets
        _, width = self.rows
        high = nibbles.high_bytes(width)
        low = nibbles.low_bytes(width, self.bits)
        return (high, low) if low else (high,)

    @property
    def bytes(self) -> int:
        """Its size in the artifact."""
        if self.layout.data is Layout.SKETCH:
            rows, axes = self.dims
            return sketches.sketch_bytes(rows, axes, self.bits)
        if self.layout.data is Layout.REFINEMENT:
            return sketches.refinement_bytes(*self.dims)
        neuron_major = self.layout.data is Layout.NEURON_MAJOR
        count = self.dims[0] if neuron_major else self.rows[0]
        if self.quantised:
            return sum(to_lines(count * size) for size in self.sheets)
        if neuron_major:
            return count * sum(self.part_bytes)
        return count * self.row_bytes(self.rows[1])

    @property
    def part_bytes(self) -> tuple[int, ...]:
        """neuron_major: bytes of each part of one neuron. Those that are not quantised are padded
        so that each starts a line."""
        _, inputs, outputs = self.dims
        sizes = [self.row_bytes(n) for n in (*[inputs] * (len(self.of) - 1), outputs)]
        return tuple(sizes if self.quantised else map(to_lines, sizes))


@irdl_op_definition
class KVSlot(IRDLOperation):
    """The keys and values of one attention: (groups, positions, key or value size)."""

    name = "exec.kv_slot"
    slot = prop_def(I64)
    groups = prop_def(I64)
    key = prop_def(I64)
    value = prop_def(I64)
    window = opt_prop_def(I64)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$slot attr-dict"


def cache_item(module: ModuleOp) -> int:
    """Bytes of an element of the KV cache: f32 where all weights are, else bf16."""
    storages = (op for op in module.ops if isinstance(op, Storage))
    sketched = (Layout.SKETCH, Layout.REFINEMENT)
    weights = (storage for storage in storages if storage.layout.data not in sketched)
    return 2 if any(storage.bits < 32 for storage in weights) else 4


def find_storage(op: Operation, symbol: SymbolRefAttr) -> Storage:
    """The storage that an op names. Raises VerifyException when it is not declared."""
    module = op.get_toplevel_object()
    assert isinstance(module, ModuleOp)
    for storage in module.ops:
        if isinstance(storage, Storage) and storage.sym_name == symbol.root_reference:
            return storage
    raise VerifyException(f"{op.name} reads {symbol}, which is not a storage")
