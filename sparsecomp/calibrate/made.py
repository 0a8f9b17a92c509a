"""Weights that a compile makes itself, block by block, beside those of the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from sparsecomp.sparsity import Narrow

from .approximation import Approximation
from .low_rank import Predictor
from .sketch import HeadSketch


class Made(Protocol):
    """What the choices of a plan need; each is made when it is first asked for."""

    def predictor(self, module: str, rank: int) -> Predictor:
        """Of the units of a block."""
        ...

    def approximation(self, module: str, rank: int) -> Approximation:
        """Of the neurons of an MLP."""
        ...

    def correction(self, module: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(basis, factors), float32, of a nested MLP."""
        ...

    def narrow(self, module: str, choice: Narrow) -> Mapping[str, torch.Tensor]:
        """What a narrow block reads in fewer bits, float32, by the names that
        `rounded_name` gives it."""
        ...

    def sketch(self, module: str) -> HeadSketch:
        """Of a head."""
        ...
