"""choose-layouts: how each weight will lie in memory, decided by what reads it.

A matrix read by a linear lies row by row; column by column when some linear reads selected
columns of it. The matrices of an MLP lie neuron by neuron, so that a neuron that is skipped is
bytes never read; those that are quantised, and of which no neuron is ever skipped, row by row,
for integer instructions multiply rows faster than columns are widened and added up. All else
(norms, biases, tables) is f32 in order.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from xdsl.builder import Builder
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    DenseArrayBase,
    IntegerType,
    ModuleOp,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    bf16,
    f32,
    i64,
)
from xdsl.ir import Attribute, Operation
from xdsl.rewriter import InsertPoint

from sparsecomp import nibbles, sketches
from sparsecomp.dialects import aten, exec, spz
from sparsecomp.options import Dtype

from .base import Form, Pass, PassContext, functions, module_path

UNQUANTISED = {Dtype.F32: f32, Dtype.BF16: bf16, Dtype.INT8: bf16, Dtype.INT4: bf16}
"""The storage types of matrices that are not quantised, as IR types."""

Need = tuple[exec.Layout, tuple[str, ...]]
"""A layout and the weights to be laid out so."""


def symbols(op: Operation, *names: str) -> tuple[str, ...]:
    """The weights that an op reads through these properties, without the absent ones."""
    found = (op.properties.get(name) for name in names)
    return tuple(symbol.string_value() for symbol in found if isinstance(symbol, SymbolRefAttr))


def mlp_need(op: spz.Mlp | spz.GatedMlp | spz.SparseMlp) -> Need:
    return exec.Layout.NEURON_MAJOR, symbols(op, "gate", "up", "down")


def row_needs(op: spz.Mlp | spz.GatedMlp) -> list[Need]:
    """Gate, up and down as three linears have them."""
    return [(exec.Layout.ROWS, (name,)) for name in symbols(op, "gate", "up", "down")]


def table_need(op: spz.Embed) -> Need:
    """Rows looked up by token are stored as the matrix they often share with the head is."""
    by_token = op.ids.index == 0 if hasattr(op.ids, "index") else False
    layout = exec.Layout.ROWS if by_token else exec.Layout.FLOATS
    return layout, symbols(op, "table")


def _reads_columns(op: Operation) -> bool:
    """Whether an op reads selected columns of its weight."""
    return isinstance(op, spz.SparseLinear) and op.side.data is spz.Side.INPUTS


def matrix_need(op: Operation, by_columns: Container[str]) -> Need:
    """A linear that reads all of a weight takes it as the one that reads some columns needs it."""
    (weight,) = symbols(op, "weight")
    whole = isinstance(op, spz.Linear)
    columns = _reads_columns(op) or (whole and weight in by_columns)
    return exec.Layout.COLUMNS if columns else exec.Layout.ROWS, (weight,)


def approximation_need(op: spz.Neurons) -> Need:
    return exec.Layout.ROWS, symbols(op, "gate", "up")


def needs(
    op: Operation, by_columns: Container[str], by_rows: Container[str] = ()
) -> Iterator[Need]:
    """The storages of what an op reads. `by_rows` are MLPs, by their matrix down."""
    floats: tuple[str, ...] = ()
    match op:
        case spz.Embed():
            yield table_need(op)
        case (
            spz.Linear() | spz.SparseLinear() | spz.LmHead() | spz.SparseHead() | spz.ExpertLinear()
        ):
            yield matrix_need(op, by_columns)
            floats = symbols(op, "bias")
        case spz.Mlp() | spz.GatedMlp() if op.down.string_value() in by_rows:
            yield from row_needs(op)
            floats = symbols(op, "gate_bias", "up_bias", "down_bias")
        case spz.Mlp() | spz.GatedMlp() | spz.SparseMlp():
            yield mlp_need(op)
            floats = symbols(op, "gate_bias", "up_bias", "down_bias")
        case spz.Predict():
            for name in ("down", "up"):
                yield exec.Layout.ROWS, symbols(op, name)
            floats = symbols(op, "bias")
        case spz.Neurons():
            if op.approximate is not None:
                yield approximation_need(op)
            # Those of others lie where the MLP of the same neurons has them.
            if correction := symbols(op, "correction"):
                yield exec.Layout.ROWS, correction
            floats = symbols(op, "gate_bias", "up_bias")
        case spz.Sketch():
            yield exec.Layout.SKETCH, symbols(op, "rows", "bias")
        case spz.Refine():
            yield exec.Layout.REFINEMENT, symbols(op, "rows")
        case spz.Select():
            floats = symbols(op, "scales")
        case spz.RmsNorm() | spz.LayerNorm():
            floats = symbols(op, "weight", "bias")
        case spz.Rope():
            floats = symbols(op, "cos", "sin")
        case spz.CachedAttention():
            floats = symbols(op, "slopes", "sinks")
        case aten.Get():
            floats = symbols(op, "weight")
    for name in floats:
        yield exec.Layout.FLOATS, (name,)


class Storages:
    """The storages of a module, found by what is in them."""

    def __init__(self, module: ModuleOp):
        self._names = {
            (op.layout.data, tuple(s.string_value() for s in op.of)): op.sym_name.data
            for op in module.ops
            if isinstance(op, exec.Storage)
        }

    def name(self, need: Need) -> str:
        return self._names[need]

    @property
    def by_columns(self) -> set[str]:
        """The weights that lie column by column."""
        return {names[0] for layout, names in self._names if layout is exec.Layout.COLUMNS}

    def neurons(self, op: spz.Neurons) -> Need | None:
        """Where an MLP has the matrices of these neurons, neuron by neuron; None: no MLP has."""
        matrices = symbols(op, "gate", "up")
        parts = 2 if op.gate is None else 3
        for layout, weights in self._names:
            of_these = weights[: len(matrices)] == matrices and len(weights) == parts
            if layout is exec.Layout.NEURON_MAJOR and of_these:
                return layout, weights
        return None

    def __contains__(self, need: Need) -> bool:
        return need in self._names

    def add(self, need: Need, name: str) -> None:
        self._names[need] = name


def _name(need: Need, op: Operation, ctx: PassContext) -> str:
    layout, weights = need
    if layout is exec.Layout.NEURON_MAJOR:
        rank = f".r{ctx.rank}" if ctx.ranks > 1 else ""  # each has neurons of its own
        return f"{module_path(op) or weights[-1]}.neurons{rank}"
    return f"{weights[0]}.{layout}"


def _shape(need: Need, types: dict[str, TensorType[Attribute]], positions: int) -> Sequence[int]:
    layout, weights = need
    shape = [positions if n == DYNAMIC_INDEX else n for n in types[weights[0]].get_shape()]
    if layout is exec.Layout.NEURON_MAJOR:
        up, down = types[weights[-2]].get_shape(), types[weights[-1]].get_shape()
        return [*up, down[0]]
    if layout is exec.Layout.ROWS:
        return [shape[0] * len(weights), *shape[1:]]
    return shape


def declarations(module: ModuleOp) -> dict[str, aten.Weight | aten.Derived]:
    """The weights of a module, by name."""
    weights = (op for op in module.ops if isinstance(op, aten.Weight | aten.Derived))
    return {op.sym_name.data: op for op in weights}


def read_by_columns(module: ModuleOp) -> set[str]:
    """The weights of which some linear reads selected columns."""
    return {
        name
        for func in functions(module)
        for op in func.body.block.ops
        if _reads_columns(op)
        for name in symbols(op, "weight")
    }


def read_by_rows(module: ModuleOp, declared: Mapping[str, aten.Weight | aten.Derived]) -> set[str]:
    """The MLPs, by their matrix down, that are quantised and of which all neurons are read."""
    ops = [op for func in functions(module) for op in func.body.block.ops]
    found, sparse = set(), set()
    for op in ops:
        if isinstance(op, spz.SparseMlp | spz.Mlp | spz.GatedMlp):
            name = op.down.string_value()
            stored = declared[name].attributes.get("stored")
            if isinstance(op, spz.SparseMlp) or op.selection is not None:
                sparse.add(name)
            elif isinstance(stored, IntegerType):
                neurons = declared[name].type.get_shape()[1]
                if nibbles.pays(neurons, stored.width.data):
                    found.add(name)
    return found - sparse


class ChooseLayouts(Pass):
    name = "choose-layouts"
    help = "decide how each weight lies in memory, by what reads it"
    requires = (Form.ROWS, Form.DECODE)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        storages = Storages(module)
        declared = declarations(module)
        types = {name: op.type for name, op in declared.items()}
        by_columns, by_rows = read_by_columns(module), read_by_rows(module, declared)
        taken: set[str] = set()
        first = next(functions(module))
        builder = Builder(InsertPoint.before(first))
        for func in functions(module):
            for op in func.body.block.ops:
                for need in needs(op, by_columns, by_rows):
                    if need in storages:
                        continue
                    name = _name(need, op, ctx)
                    while name in taken:
                        name += "'"
                    taken.add(name)
                    storages.add(need, name)
                    element: Attribute = f32
                    if need[0] is exec.Layout.REFINEMENT:
                        element = IntegerType(sketches.BITS)
                    elif isinstance(op, spz.Sketch):
                        element = IntegerType(op.bits.value.data)
                    elif need[0] is not exec.Layout.FLOATS:
                        stored = declared[need[1][0]].attributes.get("stored")
                        element = stored or UNQUANTISED[ctx.dtype]
                    storage = exec.Storage.create(
                        properties={
                            "sym_name": StringAttr(name),
                            "layout": exec.LayoutAttr(need[0]),
                            "element": element,
                            "shape": DenseArrayBase.from_list(
                                i64, _shape(need, types, ctx.positions)
                            ),
                            "of": ArrayAttr([SymbolRefAttr(w) for w in need[1]]),
                        }
                    )
                    builder.insert(storage)
