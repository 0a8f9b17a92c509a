"""Second moments of a value, in which tokens weigh what an error costs (see sensitivity)."""

from __future__ import annotations

import torch
from xdsl.ir import SSAValue


class _Sum:
    """Over tokens, with their sensitivities as weights: in pieces of so many numbers, the products
    of rows with themselves; the sums of the weights and of their squares."""

    def __init__(self, piece: int | None):
        self.piece = piece
        self.products: dict[int, torch.Tensor] = {}
        self.weights = self.squares = 0.0

    def add(self, rows: torch.Tensor, weights: torch.Tensor) -> None:
        weighed = rows * weights.sqrt()[:, None]
        for i, part in enumerate(weighed.split(self.piece or rows.shape[1], 1)):
            self.products[i] = self.products.get(i, 0.0) + part.T @ part
        self.weights += float(weights.sum())
        self.squares += float(weights.square().sum())


class WeighedMoments:
    """The second moments of a value, tokens weighed by the sensitivities of another: by themselves
    among the first tokens of windows and among all others, for the square of one is noise. What
    the first and what the others weigh together are sums of squares."""

    def __init__(self, value: SSAValue, by: SSAValue, piece: int | None):
        self.value = value
        self.by = by
        self._first, self._others = _Sum(piece), _Sum(piece)

    def add(self, x: torch.Tensor, weights: torch.Tensor) -> None:
        """Of values (T, ...) and the weights of their tokens (T,)."""
        rows = x.flatten(1)
        self._first.add(rows[:1], weights[:1])
        self._others.add(rows[1:], weights[1:])

    def means(self) -> list[torch.Tensor]:
        first, others = self._first, self._others
        of_first, of_others = (of.squares / (of.weights or 1.0) for of in (first, others))
        total = (first.squares + others.squares) or 1.0
        return [
            (of_first * first.products[i] + of_others * others.products[i]) / total
            for i in first.products
        ]
