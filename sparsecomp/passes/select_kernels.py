"""select-kernels: each op becomes the kernels that compute it, over buffers.

@prefill and @decode become programs. Attention and MLPs of one row leave partial results that a
second kernel combines, so that workers can share the first. Moves (reshape, slice, permute, expand)
become views; what is left elementwise becomes maps. `kernels/` holds what is done for each op.
"""

from __future__ import annotations

from xdsl.builder import Builder
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr, i64
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, Region
from xdsl.rewriter import InsertPoint

from sparsecomp.dialects import aten, exec, spz
from sparsecomp.options import Device

from .base import Form, Pass, PassContext, PassError, function, functions, module_path
from .choose_layouts import Storages
from .kernels import attention, dense, moves, rows, sparse
from .kernels.program import Lowering, ProgramBuilder

ROWS_PER_WORKER = 64
"""Rows of a prompt that a worker takes at once: a panel of weights is widened once for them."""

LOWERINGS: dict[type[Operation], Lowering] = (
    dense.LOWERINGS | attention.LOWERINGS | sparse.LOWERINGS | moves.LOWERINGS | rows.LOWERINGS
)


def lower(func: FuncOp, storages: Storages, device: Device) -> exec.Program:
    """One function as a program. Raises PassError for an op that no kernel computes."""
    program = ProgramBuilder(func, storages, device)
    for op in func.body.block.ops:
        program.path = module_path(op)
        match op:
            case aten.Get():
                pass  # where it is read
            case ReturnOp():
                _return(program, op)
            case aten.Elementwise():
                rows.elementwise(program, op)
            case _ if type(op) in LOWERINGS:
                LOWERINGS[type(op)](program, op)
            case _:
                raise PassError(op, "has no native kernel")
    tile = 1 if func.sym_name.data == "decode" else ROWS_PER_WORKER
    return exec.Program.create(
        properties={
            "sym_name": StringAttr(func.sym_name.data),
            "tile": IntegerAttr(tile, i64),
        },
        regions=[Region(program.block)],
    )


def _return(program: ProgramBuilder, op: ReturnOp) -> None:
    (value,) = op.operands
    slot = program.slot(value)
    if slot.base is not slot.value or not isinstance(slot.base.owner, exec.Buffer):
        copy = program.buffer(slot.shape, "logits")
        program.map([slot.value], copy.value)
        slot = copy
    assert isinstance(slot.base.owner, exec.Buffer)
    slot.base.owner.properties["space"] = exec.SpaceAttr(exec.Space.OUTPUT)


class SelectKernels(Pass):
    name = "select-kernels"
    help = "turn each op into the kernels that compute it, over buffers"
    requires = (Form.ROWS, Form.DECODE)
    ensures = (Form.KERNELS,)

    def apply(self, module: ModuleOp, ctx: PassContext) -> None:
        storages = Storages(module)
        slots = Builder(InsertPoint.before(next(functions(module))))
        for op in function(module, "decode").body.block.ops:
            if isinstance(op, spz.CachedAttention):
                slots.insert(attention.kv_slot(op))
        for func in list(functions(module)):
            program = lower(func, storages, ctx.device)
            Builder(InsertPoint.before(func)).insert(program)
            func.detach()
            func.erase()
