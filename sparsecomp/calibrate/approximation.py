"""An MLP's neurons by a low-rank approximation of their input matrices (HiRE-LR, arXiv 2402.09360,
section 3.1), in closed form: nothing is learned.

Gate and up share a basis: the best product of its rank for the inputs that the block sees. What it
leaves out is noise of a known size. Where the activation gives exact zeros, a neuron that seems to
be just inactive may not be: so `MARGIN` standard deviations of the noise are added to its first
product.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from xdsl.dialects.builtin import SymbolRefAttr

from sparsecomp.dialects import spz
from sparsecomp.passes.blocks import EXACT_ZEROS
from sparsecomp.reference.evaluate import Weights
from sparsecomp.reference.spz import ACTS
from sparsecomp.rounding import round_to

from .correction import correction

MARGIN = 2.0
"""With less, no threshold finds some of a ReLU model's active neurons; more tells them less well
from the others."""


@dataclass(frozen=True)
class Inputs:
    """What an MLP computes its neurons from: `gate` (neurons, in), None where there is none, and
    `up`; biases (neurons,) or None; the norms (neurons,) of the columns of down."""

    act: spz.Act
    gate: torch.Tensor | None
    up: torch.Tensor
    gate_bias: torch.Tensor | None
    up_bias: torch.Tensor | None
    norms: torch.Tensor

    @staticmethod
    def of(op: spz.Mlp | spz.GatedMlp, weights: Weights) -> Inputs:
        """Those of an op; `weights` gives derived weights too."""

        def given(name: str) -> torch.Tensor | None:
            symbol = op.properties.get(name)
            return weights(symbol.string_value()) if isinstance(symbol, SymbolRefAttr) else None

        norms = weights(op.down.string_value()).norm(dim=0)
        up, biases = weights(op.up.string_value()), (given("gate_bias"), given("up_bias"))
        return Inputs(op.act.data, given("gate"), up, *biases, norms)

    @property
    def matrices(self) -> list[torch.Tensor]:
        return [self.up] if self.gate is None else [self.gate, self.up]


@dataclass(frozen=True)
class Approximation:
    """basis (rank, in), gate and up (neurons, rank), all float32: they stand for the matrices `of`
    the MLP. `bias` (neurons,) is added to the first product. Gate and up are stored in so many
    `bits` (32: as they are)."""

    of: Inputs
    basis: torch.Tensor
    gate: torch.Tensor | None
    up: torch.Tensor
    bias: torch.Tensor
    bits: int

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in) float32 -> (n, neurons) float32: about how much each neuron adds."""
        z = F.linear(x, self.basis)
        first, *second = self._stored
        value = ACTS[self.of.act](F.linear(z, first, self.bias))
        for matrix in second:
            value = value * F.linear(z, matrix, self.of.up_bias)
        return value.abs() * self.of.norms

    @functools.cached_property
    def _stored(self) -> list[torch.Tensor]:
        matrices = [self.up] if self.gate is None else [self.gate, self.up]
        return [_stored(matrix, self.bits) for matrix in matrices]


def approximate(
    of: Inputs, moments: torch.Tensor, rank: int, bits: int, seed: int
) -> Approximation:
    """The neurons of an MLP by products of this rank of inputs with these second moments (in, in);
    gate and up will be stored in so many `bits`."""
    rows = torch.stack(of.matrices, 1).flatten(0, 1)
    basis, factors = correction(rows, moments, rank, seed)
    matrices = list(factors.unflatten(0, (-1, len(of.matrices))).unbind(1))
    own = of.up_bias if of.gate is None else of.gate_bias
    bias = torch.zeros(len(of.up)) if own is None else own
    if of.act in EXACT_ZEROS:
        left = of.matrices[0] - _stored(matrices[0], bits) @ basis
        bias = bias + MARGIN * ((left @ moments) * left).sum(1).clamp_min(0).sqrt()
    gate = None if of.gate is None else matrices[0]
    return Approximation(of, basis, gate, matrices[-1], bias, bits)


def _stored(matrix: torch.Tensor, bits: int) -> torch.Tensor:
    return round_to(matrix, bits) if bits <= 8 else matrix
