"""Runs whole functions of a module: the aten stage and the spz stage alike."""

from __future__ import annotations

import torch
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import SSAValue

from sparsecomp.errors import SparsecompError

from .evaluate import AddUp, Derived, Scope, Weights, execute
from .spz import KVCache


class Interpreter:
    """A module with its weights, for `positions` positions (what derived weights are made for).

    `add_up` is how a module that is one rank's reaches the others.
    """

    def __init__(
        self, module: ModuleOp, weights: Weights, positions: int, add_up: AddUp | None = None
    ):
        self.add_up = add_up
        self.module = module
        self.weights = weights
        self.derived = Derived(positions)

    def run(self, function: str, *arguments: torch.Tensor | KVCache) -> tuple[torch.Tensor, ...]:
        """The results of a function; a KVCache among the arguments is changed by the call.

        The value of `s` is the size of the arguments' `?` dimension (1 when no argument has one).

        Raises SparsecompError when there is no such function or an op fails.
        """
        block = self._function(function).body.block
        if len(arguments) != len(block.args):
            raise ValueError(f"@{function} takes {len(block.args)} arguments")
        bindings: dict[SSAValue, torch.Tensor | KVCache] = dict(
            zip(block.args, arguments, strict=True)
        )
        *ops, end = block.ops
        assert isinstance(end, ReturnOp)
        scope = Scope(_length(bindings), self.weights, self.derived, add_up=self.add_up)
        return tuple(execute(ops, end.operands, bindings, scope))

    def _function(self, name: str) -> FuncOp:
        for op in self.module.ops:
            if isinstance(op, FuncOp) and op.sym_name.data == name:
                return op
        raise SparsecompError(f"the module has no function @{name}")


def _length(bindings: dict[SSAValue, torch.Tensor | KVCache]) -> int:
    for value, tensor in bindings.items():
        if isinstance(value.type, TensorType) and isinstance(tensor, torch.Tensor):
            shape = value.type.get_shape()
            if DYNAMIC_INDEX in shape:
                return tensor.shape[shape.index(DYNAMIC_INDEX)]
    return 1
