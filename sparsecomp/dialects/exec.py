"""exec: the scheduled program. Kernels over buffers, done by workers, with barriers between.

On a CPU a program runs on every worker at once (a worker is a thread). A kernel says who does what
part of it; a buffer says whether it is shared or each worker has its own; a barrier waits for all.
On a GPU a kernel says on which stream it runs, and streams wait for events of each other.
Codegen only spells what stands here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import auto

from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    DenseArrayBase,
    FlatSymbolRefAttrConstr,
    IntegerAttr,
    IntegerType,
    MemRefType,
    ModuleOp,
    StringAttr,
    SymbolNameConstraint,
    SymbolRefAttr,
    UnitAttr,
    i64,
)
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import (
    Attribute,
    Dialect,
    Operation,
    ParametrizedAttribute,
    SpacedOpaqueSyntaxAttribute,
    SSAValue,
    TypeAttribute,
)
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    base,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    param_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import (
    IsolatedFromAbove,
    IsTerminator,
    NoTerminator,
    Pure,
    SymbolOpInterface,
)
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from sparsecomp import nibbles, sketches

from .spz import F64, I64, ActAttr, PairingAttr, SideAttr

LINE = 64
"""Bytes of a cache line: parts of a neuron start on one."""


def to_lines(size: int) -> int:
    """Bytes, rounded up to whole lines."""
    return math.ceil(size / LINE) * LINE


PART_ALIGN = 16
"""A head of a partial attention: values padded to this, then maximum, sum, and padding again."""


class Layout(StrEnum):
    """How the tensors of a storage lie in memory."""

    ROWS = auto()
    """One matrix, row by row, in the storage type. In 8 bits first the high planes of all rows,
    then the low ones (see nibbles.py)."""
    COLUMNS = auto()
    """One matrix, column by column: its transpose row by row, in the storage type."""
    NEURON_MAJOR = auto()
    """The rows of (gate,) up and the columns of down that belong to one neuron, side by side. In 8
    or 4 bits first the high planes of all neurons' rows, then those of their columns, then each
    neuron's low planes side by side: the high planes are a copy of the MLP in 4 bits."""
    SKETCH = auto()
    """The rows of a sketch and their biases, in 4 and 2 bits (see sketches.py)."""
    FLOATS = auto()
    """f32 in order: norms, biases, tables."""


class Space(StrEnum):
    """Who has a buffer."""

    SHARED = auto()
    """One copy; all workers read it, each writes its own part: of many rows, its own rows."""
    PRIVATE = auto()
    """A copy for each worker, seen by it alone."""
    PARTS = auto()
    """A copy for each worker, read by all: partial results to be combined. On a GPU `copies` of
    them, one behind the other."""
    OUTPUT = auto()
    """The caller's room for the logits."""


class Index(StrEnum):
    """What an embedding looks rows up by."""

    TOKENS = auto()
    POSITIONS = auto()


class NormKind(StrEnum):
    RMS = auto()
    LAYER = auto()


class Part(StrEnum):
    """The part of the model whose weights a kernel reads, for accounts of bytes."""

    EMBED = auto()
    ATTENTION = auto()
    MLP = auto()
    PREDICTORS = auto()
    HEAD = auto()
    OTHER = auto()


@irdl_attr_definition
class LayoutAttr(EnumAttribute[Layout], SpacedOpaqueSyntaxAttribute):
    name = "exec.layout"


@irdl_attr_definition
class SpaceAttr(EnumAttribute[Space], SpacedOpaqueSyntaxAttribute):
    name = "exec.space"


@irdl_attr_definition
class IndexAttr(EnumAttribute[Index], SpacedOpaqueSyntaxAttribute):
    name = "exec.index"


@irdl_attr_definition
class NormKindAttr(EnumAttribute[NormKind], SpacedOpaqueSyntaxAttribute):
    name = "exec.norm_kind"


@irdl_attr_definition
class PartAttr(EnumAttribute[Part], SpacedOpaqueSyntaxAttribute):
    name = "exec.part"


class Mode(StrEnum):
    """How a kernel's work is divided."""

    EACH = auto()
    """Every worker does all of it, for itself."""
    SPLIT = auto()
    """Worker w does the units `bounds[w]` to `bounds[w + 1]` of the result."""
    ROWS = auto()
    """Every worker does its own rows of the tile."""
    CONTEXT = auto()
    """Every worker does an equal share of the positions attended to."""
    LIST = auto()
    """Every worker does an equal share of a list made at run time."""
    ONE = auto()
    """Worker `bounds[0]` does all of it."""
    STREAM = auto()
    """A GPU does all of it, on stream `bounds[0]`."""
    QUEUE = auto()
    """Whoever is free does the next `bounds[0]` units of the result, until all are done."""
    IDLE = auto()
    """Who waits at the next barrier does the next `bounds[0]` units meanwhile. In the section after
    that the same kernel goes on, in this mode or as a queue."""


@irdl_attr_definition
class WorkAttr(ParametrizedAttribute):
    """Who does what part of a kernel: `#exec.work<split, [0, 288, 576]>`."""

    name = "exec.work"
    mode_: StringAttr = param_def(base(StringAttr))
    bounds_: ArrayAttr[IntegerAttr] = param_def()

    @staticmethod
    def of(mode: Mode, bounds: Sequence[int] = ()) -> WorkAttr:
        return WorkAttr(StringAttr(mode), ArrayAttr([IntegerAttr(b, i64) for b in bounds]))

    @property
    def mode(self) -> Mode:
        return Mode(self.mode_.data)

    @property
    def bounds(self) -> tuple[int, ...]:
        return tuple(b.value.data for b in self.bounds_)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            mode = Mode(parser.parse_keyword_in(tuple(Mode)))
            bounds = []
            if parser.parse_optional_punctuation(","):
                bounds = parser.parse_comma_separated_list(
                    parser.Delimiter.SQUARE, parser.parse_integer
                )
            return WorkAttr.of(mode, bounds).parameters

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(self.mode)
            if self.bounds:
                printer.print_string(f", {list(self.bounds)}")


# ---- declarations ----


@irdl_op_definition
class Storage(IRDLOperation):
    """Weights as they lie in the artifact: `offset` is in bytes from the first weight."""

    name = "exec.storage"
    sym_name = prop_def(SymbolNameConstraint())
    layout = prop_def(LayoutAttr)
    element = prop_def(TypeAttribute)
    shape = prop_def(DenseArrayBase)
    """rows, columns: (N, K). neuron_major: (neurons, inputs, outputs). floats: the tensor's own."""
    of = prop_def(ArrayAttr[SymbolRefAttr])
    """The weights in it; neuron_major: (gate,) up, down; sketch: rows, bias."""
    offset = opt_prop_def(I64)
    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(SymbolOpInterface())
    assembly_format = "$sym_name attr-dict"

    @property
    def dims(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.shape.get_values())

    @property
    def bits(self) -> int:
        """Of an element; 8 and 4 are quantised."""
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
            low = projected * nibbles.low_bytes(inputs) + nibbles.low_bytes(outputs)
            return (*sheets, low) if self.bits == 8 else sheets
        _, width = self.rows
        high = nibbles.high_bytes(width)
        return (high, nibbles.low_bytes(width)) if self.bits == 8 else (high,)

    @property
    def bytes(self) -> int:
        """Its size in the artifact."""
        if self.layout.data is Layout.SKETCH:
            return sketches.sketch_bytes(*self.dims)
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


@irdl_op_definition
class Program(IRDLOperation):
    """What each worker runs. `tile` is how many rows a worker has at most.

    `shared` and `private` are the bytes of the two arenas (the private one is per worker). On a GPU
    there are `streams` instead of workers, and all buffers are in the shared arena.
    """

    name = "exec.program"
    sym_name = prop_def(SymbolNameConstraint())
    tile = prop_def(I64)
    workers = opt_prop_def(I64)
    streams = opt_prop_def(I64)
    shared = opt_prop_def(I64)
    private = opt_prop_def(I64)
    body = region_def("single_block")
    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove(), NoTerminator())
    assembly_format = "$sym_name attr-dict-with-keyword $body"


@irdl_op_definition
class Buffer(IRDLOperation):
    """Room for rows of floats; `offset` is in bytes into the arena of its space."""

    name = "exec.buffer"
    space = opt_prop_def(SpaceAttr)
    copies = opt_prop_def(I64)
    offset = opt_prop_def(I64)
    result = result_def(MemRefType)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "attr-dict `:` type($result)"


@irdl_op_definition
class View(IRDLOperation):
    """Another shape, order or part of a buffer: no element moves.

    Strides are in elements, for the dimensions after the first; rows lie as they do in the source.
    """

    name = "exec.view"
    source = operand_def(MemRefType)
    start = prop_def(I64)
    strides = prop_def(DenseArrayBase)
    result = result_def(MemRefType)
    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$source attr-dict `:` type($source) `->` type($result)"


@irdl_op_definition
class Constant(IRDLOperation):
    """Weights as an operand of a map: the same for every row."""

    name = "exec.constant"
    storage = prop_def(FlatSymbolRefAttrConstr)
    result = result_def(MemRefType)
    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(Pure())
    assembly_format = "$storage attr-dict `:` type($result)"


# ---- kernels ----


class Kernel(IRDLOperation):
    """Reads its inputs and overwrites its output.

    Every kernel has `work` (who does what part of it), set by schedule-workers or -streams.
    """

    irdl_options = (ParsePropInAttrDict(),)

    @property
    def inputs(self) -> Sequence[SSAValue]:
        return self.operands if isinstance(self, Append) else self.operands[:-1]

    @property
    def output(self) -> SSAValue | None:
        return None if isinstance(self, Append) else self.operands[-1]

    @property
    def is_idle(self) -> bool:
        """Whether it is the beginning of a queue, done by who waits."""
        work = self.properties.get("work")
        return isinstance(work, WorkAttr) and work.mode is Mode.IDLE

    @property
    def work_of(self) -> WorkAttr:
        work = self.properties.get("work")
        if not isinstance(work, WorkAttr):
            raise VerifyException(f"{self.name} has no workers: it was not scheduled")
        return work


@irdl_op_definition
class Embed(Kernel):
    """out = row of the table, for each token or position."""

    name = "exec.embed"
    out = operand_def(MemRefType)
    index = prop_def(IndexAttr)
    table = prop_def(FlatSymbolRefAttrConstr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$table `into` $out attr-dict `:` type($out)"


@irdl_op_definition
class Ids(Kernel):
    """out = the token or position itself, as a float."""

    name = "exec.ids"
    out = operand_def(MemRefType)
    index = prop_def(IndexAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$out attr-dict `:` type($out)"


@irdl_op_definition
class Norm(Kernel):
    """out = norm of x over its last dimension, times weight, plus bias."""

    name = "exec.norm"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    kind = prop_def(NormKindAttr)
    weight = opt_prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    eps = prop_def(F64)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Quantize(Kernel):
    """out = the row x (1, width) rounded to 15 bits, for products with quantised weights.

    out (1, padded width) has room for the codes, their scales and their sums.
    """

    name = "exec.quantize"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Linear(Kernel):
    """out = x @ weight.T + bias + residual; the units are the rows of the weight.

    The weight may be stored by columns, for another kernel's sake. With a quantised weight stored
    by rows, one row x is what exec.quantize made of it; so it is for the neurons of an MLP.
    """

    name = "exec.linear"
    x = operand_def(MemRefType)
    residual = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    part = prop_def(PartAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $weight (`plus` $residual^ `:` type($residual))? `into` $out attr-dict `:` "
        "type($x) `,` type($out)"
    )


@irdl_op_definition
class Mlp(Kernel):
    """out = sum over neurons of act(gate.x) (up.x) down, without the bias of down.

    The units are the neurons: split, each worker leaves the sum over its own.
    """

    name = "exec.mlp"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    weights = prop_def(FlatSymbolRefAttrConstr)
    gate_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    up_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    gated = opt_prop_def(UnitAttr)
    act = prop_def(ActAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `,` $weights `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Select(Kernel):
    """out = the list of the chosen units: how many, then their indices, ascending, as int32.

    x (1, units) -> out (1, 1 + units). See spz.select for what is chosen. `or_all`: a caller that
    wants full logits has all units chosen.
    """

    name = "exec.select"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    threshold = opt_prop_def(F64)
    below = opt_prop_def(F64)
    count = opt_prop_def(I64)
    group = opt_prop_def(I64)
    magnitude = opt_prop_def(UnitAttr)
    scales = opt_prop_def(FlatSymbolRefAttrConstr)
    or_all = opt_prop_def(UnitAttr)
    density = prop_def(F64)
    part = prop_def(PartAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Neurons(Kernel):
    """out = the values of an MLP's neurons, or with `gate_only` their gates' activations.

    The units are the neurons. `coarse` reads the high planes alone, and adds to their products
    those of z and `correction`, stored in 4 bits, see spz.neurons.
    """

    name = "exec.neurons"
    x = operand_def(MemRefType)
    z = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    weights = prop_def(FlatSymbolRefAttrConstr)
    correction = opt_prop_def(FlatSymbolRefAttrConstr)
    coarse = opt_prop_def(UnitAttr)
    gate_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    up_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    gated = opt_prop_def(UnitAttr)
    gate_only = opt_prop_def(UnitAttr)
    act = prop_def(ActAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $weights (`corrected` `by` $z^ `:` type($z))? `into` $out attr-dict `:` type($x) "
        "`,` type($out)"
    )


@irdl_op_definition
class SparseMlp(Kernel):
    """out = the sum over the listed neurons, without the bias of down; each worker a part.

    `values` are known: the neurons' values, or with `gate_known` their gates' activations. Without
    them a neuron whose activation is 0 after its first product is not read further.
    `density` is the expected share of neurons listed, `active` of those also read further.
    The neurons listed in `rest`, a share `rest_density`, are added by their `coarse` values and the
    high planes of down.
    """

    name = "exec.sparse_mlp"
    x = operand_def(MemRefType)
    list = operand_def(MemRefType)
    values = opt_operand_def(MemRefType)
    rest = opt_operand_def(MemRefType)
    coarse = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    weights = prop_def(FlatSymbolRefAttrConstr)
    gate_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    up_bias = opt_prop_def(FlatSymbolRefAttrConstr)
    gated = opt_prop_def(UnitAttr)
    gate_known = opt_prop_def(UnitAttr)
    act = prop_def(ActAttr)
    density = prop_def(F64)
    active = prop_def(F64)
    rest_density = opt_prop_def(F64)
    work = opt_prop_def(WorkAttr)
    irdl_options = (  # type: ignore[assignment]
        ParsePropInAttrDict(),
        AttrSizedOperandSegments(as_property=True),
    )
    assembly_format = (
        "$x `,` $weights `of` $list `:` type($list) (`knowing` $values^ `:` type($values))? "
        "(`and` $rest^ `of` $coarse `:` type($rest) `,` type($coarse))? `into` $out attr-dict `:` "
        "type($x) `,` type($out)"
    )


@irdl_op_definition
class SparseLinear(Kernel):
    """A linear over the listed blocks of one side of its weight.

    Of outputs: out = the rows of the listed blocks, 0 elsewhere; the units are the rows within a
    block. Of inputs: each worker leaves the sum over its columns within each listed block, without
    bias; the weight is stored by columns and the units are the columns within a block.
    """

    name = "exec.sparse_linear"
    x = operand_def(MemRefType)
    list = operand_def(MemRefType)
    out = operand_def(MemRefType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    side = prop_def(SideAttr)
    blocks = prop_def(I64)
    density = prop_def(F64)
    part = prop_def(PartAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $weight `of` $list `:` type($list) `into` $out attr-dict `:` type($x) `,` "
        "type($out)"
    )


@irdl_op_definition
class Sum(Kernel):
    """out = residual + bias + the parts of all workers (in rows mode: the worker's own)."""

    name = "exec.sum"
    x = operand_def(MemRefType)
    residual = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x (`plus` $residual^ `:` type($residual))? `into` $out attr-dict `:` "
        "type($x) `,` type($out)"
    )


@irdl_op_definition
class AllReduce(Kernel):
    """out = the sum over all ranks of x; without x this rank adds nothing.

    One worker does it for the rows of all, so x is shared where there are many.
    """

    name = "exec.all_reduce"
    x = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    assembly_format = "($x^ `:` type($x))? `into` $out attr-dict `:` type($out)"


@irdl_op_definition
class Rope(Kernel):
    """out = cos * x + sin * partner(x) for the first `rotary` elements of each head."""

    name = "exec.rope"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    cos = prop_def(FlatSymbolRefAttrConstr)
    sin = prop_def(FlatSymbolRefAttrConstr)
    rotary = prop_def(I64)
    pairing = prop_def(PairingAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Append(Kernel):
    """Writes the rows of k and v into a slot of the cache; it has no output buffer.

    With `cos` and the like, k is turned first, as exec.rope does.
    """

    name = "exec.append"
    k = operand_def(MemRefType)
    v = operand_def(MemRefType)
    slot = prop_def(I64)
    cos = opt_prop_def(FlatSymbolRefAttrConstr)
    sin = opt_prop_def(FlatSymbolRefAttrConstr)
    rotary = opt_prop_def(I64)
    pairing = opt_prop_def(PairingAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$k `,` $v `to` $slot attr-dict `:` type($k) `,` type($v)"


@irdl_op_definition
class Attend(Kernel):
    """Attention of q over a slot of the cache.

    In rows mode the result; in context mode each worker leaves a part, to be combined. With a list
    of heads, groups without a listed head are not read, and their parts are undefined. With `cos`
    and the like, q is turned first, as exec.rope does.
    """

    name = "exec.attend"
    q = operand_def(MemRefType)
    list = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    slot = prop_def(I64)
    scale = prop_def(F64)
    window = opt_prop_def(I64)
    chunk = opt_prop_def(I64)
    softcap = opt_prop_def(F64)
    slopes = opt_prop_def(FlatSymbolRefAttrConstr)
    sinks = opt_prop_def(FlatSymbolRefAttrConstr)
    cos = opt_prop_def(FlatSymbolRefAttrConstr)
    sin = opt_prop_def(FlatSymbolRefAttrConstr)
    rotary = opt_prop_def(I64)
    pairing = opt_prop_def(PairingAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$q (`of` $list^ `:` type($list))? `from` $slot `into` $out attr-dict `:` type($q) `,` "
        "type($out)"
    )


@irdl_op_definition
class Combine(Kernel):
    """out = the attention of all workers' parts; 0 for heads that a list leaves out."""

    name = "exec.combine"
    x = operand_def(MemRefType)
    list = opt_operand_def(MemRefType)
    out = operand_def(MemRefType)
    sinks = opt_prop_def(FlatSymbolRefAttrConstr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x (`of` $list^ `:` type($list))? `into` $out attr-dict `:` type($x) `,` type($out)"
    )


@irdl_op_definition
class Last(Kernel):
    """out = the last row of the tile."""

    name = "exec.last"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Map(Kernel):
    """out[i] = body(inputs[i]), elementwise with broadcasting; the body is ATen on scalars.

    The units are the elements of the first dimension after the rows.
    """

    name = "exec.map"
    ins = var_operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    body = region_def("single_block")
    assembly_format = (
        "`(` $ins `)` `into` $out `:` type($ins) `into` type($out) attr-dict-with-keyword $body"
    )


@irdl_op_definition
class MapYield(IRDLOperation):
    """Ends the body of a map or fold."""

    name = "exec.yield"
    value = operand_def()
    traits = traits_def(IsTerminator(), Pure())
    assembly_format = "$value attr-dict `:` type($value)"


class Fold(StrEnum):
    """What a reduction computes along the last dimension."""

    SUM = auto()
    MEAN = auto()
    MAX = auto()
    MIN = auto()
    SOFTMAX = auto()
    """Not a reduction: out has the shape of x."""


@irdl_attr_definition
class FoldAttr(EnumAttribute[Fold], SpacedOpaqueSyntaxAttribute):
    name = "exec.fold"


@irdl_op_definition
class TopK(Kernel):
    """The k largest of the last dimension, in order: out (..., 2, k) holds values, then indices."""

    name = "exec.top_k"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Gather(Kernel):
    """out[j] = x[index[j]] along the last dimension."""

    name = "exec.gather"
    x = operand_def(MemRefType)
    index = operand_def(MemRefType)
    out = operand_def(MemRefType)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $index `into` $out attr-dict `:` type($x) `,` type($index) `,` type($out)"
    )


@irdl_op_definition
class Scatter(Kernel):
    """out = x, but out[index[j]] = value along the last dimension."""

    name = "exec.scatter"
    x = operand_def(MemRefType)
    index = operand_def(MemRefType)
    out = operand_def(MemRefType)
    value = prop_def(F64)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $index `into` $out attr-dict `:` type($x) `,` type($index) `,` type($out)"
    )


@irdl_op_definition
class Sketch(Kernel):
    """out = the scores (1, V) of x (1, axes + 1) in a sketch; the units are its rows.

    x is rounded to 8 bits in the groups of the sketch, but for its last element.
    """

    name = "exec.sketch"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    rows = prop_def(FlatSymbolRefAttrConstr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `,` $rows `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class SparseHead(Kernel):
    """out (1, V) = the head's logits of the listed rows, of the others scores (1, V) + offset.

    Each worker has its share of the list, and what lies from its first entry to the next worker's.
    """

    name = "exec.sparse_head"
    x = operand_def(MemRefType)
    list = operand_def(MemRefType)
    scores = operand_def(MemRefType)
    out = operand_def(MemRefType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    offset = prop_def(F64)
    density = prop_def(F64)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $weight `of` $list `:` type($list) `else` $scores `:` type($scores) `into` $out "
        "attr-dict `:` type($x) `,` type($out)"
    )


@irdl_op_definition
class ExpertLinear(Kernel):
    """out[c] = weight[experts[c]] @ x[c] + bias[experts[c]] for each choice c of a token.

    The units are the rows of one expert's matrix.
    """

    name = "exec.expert_linear"
    x = operand_def(MemRefType)
    experts = operand_def(MemRefType)
    out = operand_def(MemRefType)
    weight = prop_def(FlatSymbolRefAttrConstr)
    bias = opt_prop_def(FlatSymbolRefAttrConstr)
    work = opt_prop_def(WorkAttr)
    assembly_format = (
        "$x `,` $experts `,` $weight `into` $out attr-dict `:` type($x) `,` type($experts) `,` "
        "type($out)"
    )


@irdl_op_definition
class Reduce(Kernel):
    """out = fold of x along its last dimension."""

    name = "exec.reduce"
    x = operand_def(MemRefType)
    out = operand_def(MemRefType)
    fold = prop_def(FoldAttr)
    work = opt_prop_def(WorkAttr)
    assembly_format = "$x `into` $out attr-dict `:` type($x) `,` type($out)"


@irdl_op_definition
class Barrier(IRDLOperation):
    """Waits until every worker is here."""

    name = "exec.barrier"
    assembly_format = "attr-dict"


@irdl_op_definition
class Record(IRDLOperation):
    """The event comes when the stream has done all that it was given so far."""

    name = "exec.record"
    event = prop_def(I64)
    stream = prop_def(I64)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$event attr-dict"


@irdl_op_definition
class Wait(IRDLOperation):
    """The stream begins what it is given from here on when the event has come."""

    name = "exec.wait"
    event = prop_def(I64)
    stream = prop_def(I64)
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$event attr-dict"


@irdl_op_definition
class LogitsOnly(IRDLOperation):
    """What follows computes logits only: a caller that wants none is done here."""

    name = "exec.logits_only"
    assembly_format = "attr-dict"


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """The shape of a buffer's value; the first size is DYNAMIC_INDEX where it counts rows."""
    assert isinstance(value.type, MemRefType)
    return value.type.get_shape()


def row_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of the dimensions after the first, when a row lies in order."""
    return tuple(math.prod(shape[d + 1 :]) for d in range(1, len(shape)))


def buffer_of(value: SSAValue) -> Buffer | None:
    """The buffer behind a value, through views; None for a constant."""
    op = value.owner
    while isinstance(op, View):
        op = op.source.owner
    return op if isinstance(op, Buffer) else None


def cache_item(module: ModuleOp) -> int:
    """Bytes of an element of the KV cache: f32 where all weights are, else bf16."""
    storages = (op for op in module.ops if isinstance(op, Storage))
    weights = (storage for storage in storages if storage.layout.data is not Layout.SKETCH)
    return 2 if any(storage.bits < 32 for storage in weights) else 4


def find_storage(op: Operation, symbol: SymbolRefAttr) -> Storage:
    """The storage that an op names. Raises VerifyException when it is not declared."""
    module = op.get_toplevel_object()
    assert isinstance(module, ModuleOp)
    for storage in module.ops:
        if isinstance(storage, Storage) and storage.sym_name == symbol.root_reference:
            return storage
    raise VerifyException(f"{op.name} reads {symbol}, which is not a storage")


Exec = Dialect(
    "exec",
    [
        Storage,
        KVSlot,
        Program,
        Buffer,
        View,
        Constant,
        Embed,
        Ids,
        Norm,
        Quantize,
        Linear,
        Mlp,
        Select,
        Neurons,
        SparseMlp,
        SparseLinear,
        Sum,
        AllReduce,
        Rope,
        Append,
        Attend,
        Combine,
        Last,
        Map,
        MapYield,
        Reduce,
        TopK,
        Gather,
        Scatter,
        ExpertLinear,
        Sketch,
        SparseHead,
        Barrier,
        Record,
        Wait,
        LogitsOnly,
    ],
    [LayoutAttr, SpaceAttr, IndexAttr, NormKindAttr, PartAttr, WorkAttr, FoldAttr],
)
