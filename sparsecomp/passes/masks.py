"""What an attention mask says, found by evaluating it and not by the formula that made it.

A mask is a position-only value added to the scores (or that selects them). It is evaluated at real
lengths, and at far positions by sampling, and compared with what attention supports: causal, a
sliding window, chunks, a slope per head (ALiBi).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from xdsl.dialects.builtin import DYNAMIC_INDEX
from xdsl.ir import Operation, SSAValue

from sparsecomp.dialects import aten
from sparsecomp.dialects.schema import CallOp

from .base import PassContext, PassError
from .build import shape_of
from .outline import backward_slice

FORBIDDEN = -1e8
"""A bias at or below this forbids the pair; no slope times a distance comes near it."""
DIRECT_LENGTH = 512
"""Masks are evaluated whole up to this length, and sampled beyond it."""


@dataclass(frozen=True)
class Term:
    """One thing that a mask does to the scores: adds a bias, or forbids where (not) true."""

    value: SSAValue
    forbids: bool | None = None
    """None: an additive bias. True: forbids where the value is true; False: where it is false."""
    factor: float = 1.0


@dataclass(frozen=True)
class Mask:
    """A causal mask over at most the positions compiled for."""

    window: int | None = None
    chunk: int | None = None
    slopes: tuple[float, ...] | None = None


CAUSAL = Mask()


class MaskReader:
    """Classifies masks; equal masks (one value for many layers) are read once."""

    def __init__(self, ctx: PassContext):
        self.ctx = ctx
        self._known: dict[tuple[Term, ...], Mask] = {}

    def read(self, terms: Sequence[Term], heads: int, op: Operation) -> Mask:
        """Raises PassError when the mask is not causal or of no supported form."""
        key = tuple(terms)
        if key not in self._known:
            self._known[key] = self._read(key, heads, op)
        return self._known[key]

    def _read(self, terms: tuple[Term, ...], heads: int, op: Operation) -> Mask:
        direct = torch.arange(min(self.ctx.positions, DIRECT_LENGTH))
        mask = _fit(direct, self._bias(terms, heads, len(direct), None, op), op)
        if self.ctx.positions > len(direct):
            samples = self._samples(terms)
            far = self._bias(terms, heads, len(samples), samples, op)
            mask = _fit(samples, far, op)
        return mask

    def _samples(self, terms: tuple[Term, ...]) -> torch.Tensor:
        """Positions around 0, the last one, and every constant of the formula and its double."""
        last = self.ctx.positions - 1
        marks = {0, last}
        for term in terms:
            for op in backward_slice(term.value):
                if isinstance(op, CallOp):
                    numbers = [op.arg(a.name) for a in op.ARGS if not a.is_tensor]
                    marks |= {
                        abs(int(n))
                        for n in numbers
                        if isinstance(n, int | float) and n == n and abs(n) < 1e9
                    }
        near = {m * k + d for m in marks for k in (1, 2) for d in range(-3, 4)} | set(range(16))
        return torch.tensor(sorted(p for p in near if 0 <= p <= last))

    def _bias(
        self,
        terms: tuple[Term, ...],
        heads: int,
        length: int,
        positions: torch.Tensor | None,
        op: Operation,
    ) -> torch.Tensor:
        """The sum of the terms as (heads or 1, length, length); -inf forbids."""
        total = torch.zeros(1, length, length)
        for term in terms:
            bindings = {} if positions is None else self._at_samples(term.value, positions)
            (value,) = self.ctx.evaluate(
                [term.value],
                bindings,
                length=length,
                weights=self.ctx.weights,
                positions=positions,
            )
            if term.forbids is not None:
                value = torch.where(value.bool() == term.forbids, -torch.inf, 0.0)
            value = value.float() * term.factor
            while value.ndim > 3 and value.shape[0] == 1:
                value = value[0]
            if value.ndim > 3 or (value.ndim == 3 and value.shape[0] not in (1, heads)):
                raise PassError(op, f"its mask has the shape {list(value.shape)}")
            total = total + value
        return total.masked_fill(total <= FORBIDDEN, -torch.inf)

    def _at_samples(self, value: SSAValue, positions: torch.Tensor) -> dict[SSAValue, torch.Tensor]:
        """Values within a mask that sampling alone would falsify.

        Running sums and differences mix positions: transformers uses them to find packed sequences,
        of which one sequence has none, so they are the same everywhere. A look-up by position
        finds the sample of that position.
        """
        length = len(positions)
        known: dict[SSAValue, torch.Tensor] = {}
        for op in backward_slice(value):
            if isinstance(op, aten.Cumsum | aten.Diff):
                (small,) = self.ctx.evaluate(
                    [op.results[0]], {}, length=37, weights=self.ctx.weights
                )
                if small.unique().numel() == 1:
                    shape = [length if n == DYNAMIC_INDEX else n for n in shape_of(op.results[0])]
                    known[op.results[0]] = small.flatten()[0].expand(shape)
            elif isinstance(op, aten.Index):
                known[op.results[0]] = self._looked_up(op, known, positions)
        return known

    def _looked_up(
        self, op: aten.Index, known: dict[SSAValue, torch.Tensor], positions: torch.Tensor
    ) -> torch.Tensor:
        source, *indices = self.ctx.evaluate(
            list(op.operands),
            known,
            length=len(positions),
            weights=self.ctx.weights,
            positions=positions,
        )
        given = iter(indices)
        subscript: list[object] = []
        for dim, hole in enumerate(op.arg_holes("indices")):
            if hole:
                subscript.append(slice(None))
                continue
            index = next(given)
            counts_positions = shape_of(op.operands[0])[dim] == DYNAMIC_INDEX
            subscript.append(torch.searchsorted(positions, index) if counts_positions else index)
        return source[tuple(subscript)]  # type: ignore[index]


def _fit(positions: torch.Tensor, bias: torch.Tensor, op: Operation) -> Mask:
    """The mask that explains a bias (heads or 1, n, n) over pairs of positions."""
    distance = positions[:, None] - positions[None, :]
    causal = distance >= 0
    allowed = bias > FORBIDDEN
    if (allowed != allowed[:1]).any():
        raise PassError(op, "its mask differs from head to head")
    allowed = allowed[0]
    if (allowed & ~causal).any():
        raise PassError(op, "its mask is not causal: a token would see later tokens")
    window = chunk = None
    hidden = causal & ~allowed
    if hidden.any():
        window = int(distance[hidden].min())
        if not torch.equal(allowed, causal & (distance < window)):
            window, chunk = None, int(positions[hidden[:, 0]].min())
            together = positions[:, None] // chunk == positions[None, :] // chunk
            if not torch.equal(allowed, causal & together):
                raise PassError(op, "its mask is neither causal, a sliding window nor chunks")
    return Mask(window, chunk, _slopes(bias, allowed, distance, op))


def _slopes(
    bias: torch.Tensor, allowed: torch.Tensor, distance: torch.Tensor, op: Operation
) -> tuple[float, ...] | None:
    """Slope per head of a bias linear in the distance (a constant per row changes nothing)."""
    # Against the diagonal, which causality and any window leave allowed.
    relative = torch.where(allowed, bias - bias.diagonal(dim1=1, dim2=2)[:, :, None], 0.0)
    if relative.abs().max() < 1e-6:
        return None
    below = allowed & (distance > 0)
    slopes = relative[:, below] / -distance[below]
    slope = slopes.median(dim=1).values
    expected = -slope[:, None, None] * distance
    error = (torch.where(allowed, expected, 0.0) - relative).abs().max()
    if error > 1e-3 * max(1.0, float(relative.abs().max())):
        raise PassError(op, "its position bias is not linear in the distance")
    return tuple(slope.tolist())
