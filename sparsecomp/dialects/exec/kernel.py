"""What all kernels are: inputs, outputs, and who does what part of the work."""

from __future__ import annotations

from collections.abc import Sequence
from enum import auto

from xdsl.dialects.builtin import ArrayAttr, IntegerAttr, StringAttr, i64
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import Attribute, ParametrizedAttribute, SpacedOpaqueSyntaxAttribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    base,
    irdl_attr_definition,
    irdl_op_definition,
    opt_prop_def,
    param_def,
    region_def,
    traits_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import NoTerminator
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from .program import Buffer, buffer_of


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


class Part(StrEnum):
    """The part of the model whose weights a kernel reads, for accounts of bytes."""

    EMBED = auto()
    ATTENTION = auto()
    MLP = auto()
    PREDICTORS = auto()
    HEAD = auto()
    OTHER = auto()


@irdl_attr_definition
class PartAttr(EnumAttribute[Part], SpacedOpaqueSyntaxAttribute):
    name = "exec.part"


class Kernel(IRDLOperation):
    """Reads its inputs and overwrites its output.

    Every kernel has `work` (who does what part of it), set by schedule-workers or -streams.
    """

    irdl_options = (ParsePropInAttrDict(),)

    @property
    def inputs(self) -> Sequence[SSAValue]:
        return self.operands[:-1]

    @property
    def outputs(self) -> Sequence[SSAValue]:
        return self.operands[-1:]

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
class Launch(Kernel):
    """Kernels that a GPU does at once, as one: what comes from outside is there, and what one of
    them leaves in a buffer of the launch the others have without waiting.

    Buffers inside are no memory: whoever reads them computes them.
    """

    name = "exec.launch"
    body = region_def("single_block")
    work = opt_prop_def(WorkAttr)
    traits = traits_def(NoTerminator())
    assembly_format = "attr-dict-with-keyword $body"

    @property
    def kernels(self) -> list[Kernel]:
        return [op for op in self.body.block.ops if isinstance(op, Kernel)]

    @property
    def inputs(self) -> Sequence[SSAValue]:
        """What its kernels read that none of them has written before."""
        found: list[SSAValue] = []
        written: set[Buffer | None] = set()
        for op in self.kernels:
            found += [v for v in op.inputs if buffer_of(v) not in written and not self._inside(v)]
            written |= {buffer for v in op.outputs if (buffer := buffer_of(v)) is not None}
        return found

    @property
    def outputs(self) -> Sequence[SSAValue]:
        return [v for op in self.kernels for v in op.outputs if not self._inside(v)]

    def _inside(self, value: SSAValue) -> bool:
        buffer = buffer_of(value)
        return buffer is not None and buffer.parent_op() is self
