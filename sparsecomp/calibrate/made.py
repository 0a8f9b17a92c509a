"""Weights that a compile makes itself, block by block, beside those of the checkpoint."""

from __future__ import annotations

from typing import Protocol

import torch

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

    def sketch(self, module: str) -> HeadSketch:
        """Of a head."""
        ...
