"""derive-decode: from the causal full-sequence graph, @prefill and @decode over a KV cache.

Every op but attention treats rows alone, so the same ops serve many rows or one; each attention
gets a slot of the cache. @prefill needs the logits of its last row only: the cut to one row is
moved up as far as ops treat rows alone.
"""

from __future__ import annotations

from xdsl.builder import Builder
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    FunctionType,
    IntegerAttr,
    ModuleOp,
    TensorType,
    i64,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, BlockArgument, Operation, Region, SSAValue
from xdsl.rewriter import InsertPoint
from xdsl.transforms.dead_code_elimination import region_dce

from sparsecomp.dialects import aten, spz

from .base import Form, Pass, PassContext, function
from .build import clone_with_rows, tensor_type


def _with_cache(forward: FuncOp, name: str, rows: int) -> FuncOp:
    """A copy of @forward for `rows` rows, in which attention reads the cache."""
    ids, positions = forward.body.block.args
    block = Block(
        arg_types=[
            TensorType(tensor_type(ids).element_type, [rows]),
            TensorType(tensor_type(positions).element_type, [rows]),
            spz.KVCacheType(),
        ]
    )
    mapping: dict[SSAValue, SSAValue] = {ids: block.args[0], positions: block.args[1]}
    for argument, hint in zip(block.args, ("ids", "positions", "cache"), strict=True):
        argument.name_hint = hint
    slot = 0
    for op in forward.body.block.ops:
        if isinstance(op, spz.Attention):
            cached = spz.CachedAttention.create(
                operands=[*(mapping[o] for o in op.operands), block.args[1], block.args[2]],
                properties=dict(op.properties) | {"slot": IntegerAttr(slot, i64)},
                attributes=dict(op.attributes),
                result_types=[op.result.type],
            )
            new = clone_with_rows(cached, {}, rows)
            cached.erase()
            slot += 1
        else:
            new = clone_with_rows(op, mapping, rows)
        block.add_op(new)
        for old, result in zip(op.results, new.results, strict=True):
            result.name_hint = old.name_hint
            mapping[old] = result
    returned = block.last_op
    assert isinstance(returned, ReturnOp)
    type = FunctionType.from_lists(
        [a.type for a in block.args], [o.type for o in returned.operands]
    )
    return FuncOp(name, type, Region(block))


def _keep_last(prefill: FuncOp) -> None:
    """Return the last row only, and compute no other where rows are alone."""
    returned = prefill.body.block.last_op
    assert isinstance(returned, ReturnOp)
    _LastRow(prefill).cut(returned)
    outputs = [o.type for o in returned.operands]
    prefill.properties["function_type"] = FunctionType.from_lists(
        list(prefill.function_type.inputs), outputs
    )


class _LastRow:
    def __init__(self, func: FuncOp):
        block = func.body.block
        # Attention reads the rows of all tokens: what it needs stays, what only the result needs
        # is done for one row.
        self.shared: set[Operation] = set()
        # Look-ups stay too: a function's arguments are for all rows.
        stack: list[Operation] = [
            op for op in block.ops if isinstance(op, spz.CachedAttention | spz.Embed)
        ]
        while stack:
            op = stack.pop()
            if op not in self.shared:
                self.shared.add(op)
                stack.extend(o.owner for o in op.operands if isinstance(o.owner, Operation))
        self.last: dict[SSAValue, SSAValue] = {}

    def cut(self, returned: ReturnOp) -> None:
        block = returned.parent_block()
        assert block is not None
        for op in list(block.ops):
            if op in self.shared or isinstance(op, aten.Get):
                continue
            if op is returned:
                returned.operands = [self._row(o) for o in returned.operands]
                continue
            builder = Builder(InsertPoint.before(op))
            mapping = {o: self._row(o) for o in op.operands}
            new = builder.insert(clone_with_rows(op, mapping, 1))
            for old, result in zip(op.results, new.results, strict=True):
                result.name_hint = old.name_hint
                self.last[old] = result

    def _row(self, value: SSAValue) -> SSAValue:
        """The last row of a value; weights have no rows."""
        if value in self.last:
            return self.last[value]
        type = tensor_type(value)
        if DYNAMIC_INDEX not in type.get_shape():
            return value
        last = spz.Last.create(
            operands=[value],
            result_types=[TensorType(type.element_type, [1, *type.get_shape()[1:]])],
        )
        owner = value.owner
        if isinstance(value, BlockArgument):
            assert isinstance(owner, Block)
            Builder(InsertPoint.at_start(owner)).insert(last)
        else:
            assert isinstance(owner, Operation)
            Builder(InsertPoint.after(owner)).insert(last)
        self.last[value] = last.result
        return last.result


class DeriveDecode(Pass):
    name = "derive-decode"
    help = "derive @prefill and @decode with a KV cache from the full-sequence graph"
    requires = (Form.ROWS, Form.FULL_SEQUENCE)
    ensures = (Form.ROWS, Form.DECODE)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        forward = function(module, "forward")
        prefill = _with_cache(forward, "prefill", DYNAMIC_INDEX)
        decode = _with_cache(forward, "decode", 1)
        Builder(InsertPoint.after(forward)).insert([prefill, decode])
        forward.detach()
        forward.erase()
        _keep_last(prefill)
        region_dce(module.body)
