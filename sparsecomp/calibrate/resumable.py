"""A model over whole windows of text, to be run once and then from any block on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Operation, SSAValue

from sparsecomp.passes.base import function
from sparsecomp.passes.blocks import Block, HeadBlock, blocks
from sparsecomp.passes.narrow import narrowed
from sparsecomp.reference.evaluate import Derived, Scope, Weights, execute, needed
from sparsecomp.sparsity import FEWER_BITS, Narrow

Side = tuple[Operation, ...]
"""Ops of a block whose results change together."""


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
        sides = [side for block in self.blocks for side in _sides(block)]
        self._rest = {
            side: [op for op in ops[min(places[op] for op in side) :] if op not in side]
            for side in sides
        }
        """The ops behind the first of a side, by side."""
        self._live = {side: self._values_before(side) for side in sides}

    def _values_before(self, side: Side) -> list[SSAValue]:
        """The values that the ops behind a side read and that are there before it."""
        made = {result for op in (*side, *self._rest[side]) for result in op.results}
        read = {operand for op in self._rest[side] for operand in op.operands} - made
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
        wanted |= {value for side in self._rest for op in side for value in op.operands}
        wanted |= {op.results[0] for side in self._rest for op in side}
        wanted |= {block.input for block in self.blocks}
        values = self._arguments(window)

        def keep(value: SSAValue, tensor: torch.Tensor) -> None:
            if value in wanted:
                values[value] = tensor

        (logits,) = execute(self.ops, [self.logits], values, self.scope(len(window)), keep)
        return DenseRun(F.log_softmax(logits, dim=-1), values)

    def divergence(self, dense: DenseRun, side: Side, outputs: Sequence[torch.Tensor]) -> float:
        """KL(dense || changed) in nats, summed over the window, with other results of some ops: of
        a block's own, or of an attention's linears before it, or behind it."""
        bindings = {value: dense.values[value] for value in self._live[side]}
        bindings |= {value: dense.values[value] for value in self.arguments}
        bindings |= {op.results[0]: out for op, out in zip(side, outputs, strict=True)}
        rest, scope = self._rest[side], self.scope(len(dense.log_p))
        (logits,) = execute(rest, [self.logits], bindings, scope)
        log_q = F.log_softmax(logits, dim=-1)
        return float(F.kl_div(log_q, dense.log_p, reduction="sum", log_target=True))

    def _arguments(self, window: np.ndarray) -> dict[SSAValue, torch.Tensor]:
        ids = torch.from_numpy(window.astype(np.int64))
        return dict(zip(self.arguments, (ids, torch.arange(len(ids))), strict=True))


def _sides(block: Block) -> list[Side]:
    """The ops of a block whose results a choice changes together."""
    found: list[Side] = [(block.op,)]
    if not isinstance(block, HeadBlock):
        every = Narrow(bits=FEWER_BITS[0], output_bits=FEWER_BITS[0])
        found += [part.ops for part in narrowed(block, every)]
    return found
