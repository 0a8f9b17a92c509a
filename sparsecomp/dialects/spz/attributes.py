"""What spz and exec say of an op: numbers, activations, pairings, sides, choices; and the cache."""

from __future__ import annotations

import dataclasses
from enum import auto

from xdsl.dialects.builtin import Float64Type, FloatAttr, IntegerAttr, IntegerType
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import Data, ParametrizedAttribute, SpacedOpaqueSyntaxAttribute, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.str_enum import StrEnum

from sparsecomp.errors import SparsecompError
from sparsecomp.sparsity import KINDS, Choice, Exact, kind_of

F64 = FloatAttr[Float64Type]
I64 = IntegerAttr[IntegerType]


class Act(StrEnum):
    """Activation functions that an MLP kernel can fuse."""

    RELU = auto()
    RELU2 = auto()
    SILU = auto()
    GELU_ERF = auto()
    GELU_TANH = auto()
    QUICK_GELU = auto()
    SIGMOID = auto()
    TANH = auto()
    IDENTITY = auto()


class Pairing(StrEnum):
    """Which element a rotary embedding turns with element i: i +- R/2, or i ^ 1."""

    HALF = auto()
    INTERLEAVED = auto()


class Side(StrEnum):
    """Which side of a matrix a selection picks blocks of: rows (outputs) or columns (inputs)."""

    OUTPUTS = auto()
    INPUTS = auto()


@irdl_attr_definition
class ActAttr(EnumAttribute[Act], SpacedOpaqueSyntaxAttribute):
    name = "spz.act"


@irdl_attr_definition
class PairingAttr(EnumAttribute[Pairing], SpacedOpaqueSyntaxAttribute):
    name = "spz.pairing"


@irdl_attr_definition
class SideAttr(EnumAttribute[Side], SpacedOpaqueSyntaxAttribute):
    name = "spz.side"


@irdl_attr_definition
class SparsityAttr(Data[Choice]):
    """How a block is made sparse: `#spz.sparsity<cutoff, of = neuron, threshold = 0.0, ...>`.

    allocate-sparsity sets it as the attribute `sparsity` of an MLP, an attention or the head.
    """

    name = "spz.sparsity"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Choice:
        with parser.in_angle_brackets():
            kind = KINDS[parser.parse_keyword_in(tuple(KINDS))]
            types = {f.name: f.type for f in dataclasses.fields(kind)}
            values: dict[str, object] = {}
            while parser.parse_optional_punctuation(","):
                name = parser.parse_keyword_in(tuple(types))
                parser.parse_punctuation("=")
                values[name] = _parse_field(parser, str(types[name]))
            try:
                return kind(**values)  # type: ignore[arg-type]
            except (SparsecompError, TypeError) as error:
                parser.raise_error(str(error))

    def print_parameter(self, printer: Printer) -> None:
        fields = dataclasses.asdict(self.data)
        text = "".join(f", {name} = {value}" for name, value in fields.items())
        with printer.in_angle_brackets():
            printer.print_string(f"{kind_of(self.data)}{text}")


def _parse_field(parser: AttrParser, type: str) -> object:
    if type == "Exact":
        return Exact(parser.parse_keyword_in(tuple(Exact)))
    number = parser.parse_number()
    return float(number) if type == "float" else number


@irdl_attr_definition
class KVCacheType(ParametrizedAttribute, TypeAttribute):
    """The keys and values of one sequence, for every attention of the model."""

    name = "spz.kv_cache"
