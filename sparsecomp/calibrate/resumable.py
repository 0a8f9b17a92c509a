"""A model over whole windows of text, to be run once and then from any block on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Operation, SSAValue

from sparsecomp.passes.base import function
from sparsecomp.passes.blocks import AttentionBlock, Block, blocks
from sparsecomp.reference.evaluate import Derived, Scope, Weights, execute, needed


@dataclass(frozen=True)
class DenseRun:
    """What a dense run over one window leaves: its logits (T, vocab), as log probabilities, and
    the values that runs with a sparse block go on from."""

    log_p: torch.Tensor
    values: Mapping[SSAValue, torch.Tensor]


class Resumable:
    """@forward of a module (after raise-head), to be run whole once and then from any block on."""

    def __init__(self, module: ModuleOp, weights: Weights, positions: int):
        forward = function(module, "forward")
        *ops, end = forward.body.block.ops
        assert isinstance(end, ReturnOp)
        self.ops: list[Operation] = ops
        self.arguments = forward.body.block.args
        self.logits = end.operands[0]
        self.weights = weights
        self.derived = Derived(positions)
        self.blocks = blocks(forward)
        places = {op: place for place, op in enumerate(ops)}
        self._after = {op: places[op] + 1 for block in self.blocks for op in _changed(block)}
        self._live = {op: self._values_after(op) for op in self._after}

    def _values_after(self, op: Operation) -> list[SSAValue]:
        """The values that the ops behind one read and that are there before it."""
        rest = self.ops[self._after[op] :]
        made = {result for op in rest for result in op.results} | {*op.results}
        read = {operand for op in rest for operand in op.operands} - made
        return [value for value in read if value not in self.arguments]

    def finish(self, block: Block, output: torch.Tensor) -> torch.Tensor:
        """The logits for an output (T, ...) of a block behind which each row is alone, and reads
        nothing else: the head."""
        given: dict[SSAValue, torch.Tensor] = {block.op.results[0]: output}
        ops = needed([self.logits], given)
        (logits,) = execute(ops, [self.logits], given, self.scope(len(output)))
        return logits

    def scope(self, length: int) -> Scope:
        return Scope(length, self.weights, self.derived)

    def run(self, window: np.ndarray) -> DenseRun:
        """The dense model over token ids (T,)."""
        wanted = {value for live in self._live.values() for value in live}
        wanted |= {operand for op in self._after for operand in op.operands}
        wanted |= {block.op.results[0] for block in self.blocks}
        wanted |= {block.input for block in self.blocks}
        values = self._arguments(window)

        def keep(value: SSAValue, tensor: torch.Tensor) -> None:
            if value in wanted:
                values[value] = tensor

        (logits,) = execute(self.ops, [self.logits], values, self.scope(len(window)), keep)
        return DenseRun(F.log_softmax(logits, dim=-1), values)

    def divergence(self, dense: DenseRun, op: Operation, output: torch.Tensor) -> float:
        """KL(dense || changed) in nats, summed over the window, with another result of an op: a
        block's, or an attention's query or output projection."""
        bindings = {value: dense.values[value] for value in self._live[op]}
        bindings |= {value: dense.values[value] for value in self.arguments}
        bindings[op.results[0]] = output
        rest = self.ops[self._after[op] :]
        (logits,) = execute(rest, [self.logits], bindings, self.scope(len(dense.log_p)))
        log_q = F.log_softmax(logits, dim=-1)
        return float(F.kl_div(log_q, dense.log_p, reduction="sum", log_target=True))

    def _arguments(self, window: np.ndarray) -> dict[SSAValue, torch.Tensor]:
        ids = torch.from_numpy(window.astype(np.int64))
        return dict(zip(self.arguments, (ids, torch.arange(len(ids))), strict=True))


def _changed(block: Block) -> list[Operation]:
    """The ops of a block whose results a choice changes."""
    found: list[Operation] = [block.op]
    if isinstance(block, AttentionBlock):
        found += [op for op in (block.query, block.output) if op is not None]
    return found
