"""A program, its buffers, and what orders its kernels: barriers of workers, events of streams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import auto

from xdsl.dialects.builtin import (
    DenseArrayBase,
    FlatSymbolRefAttrConstr,
    MemRefType,
    SymbolNameConstraint,
)
from xdsl.dialects.utils import EnumAttribute
from xdsl.ir import SpacedOpaqueSyntaxAttribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
)
from xdsl.traits import IsolatedFromAbove, NoTerminator, Pure, SymbolOpInterface
from xdsl.utils.str_enum import StrEnum

from sparsecomp.dialects.spz.attributes import I64


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


@irdl_attr_definition
class SpaceAttr(EnumAttribute[Space], SpacedOpaqueSyntaxAttribute):
    name = "exec.space"


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
