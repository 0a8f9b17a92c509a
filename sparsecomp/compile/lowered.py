"""What the passes leave of a model: the scheduled programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from sparsecomp.options import Device
from sparsecomp.passes.pipeline import CUDA_LOWERING, LOWERING
from sparsecomp.sparsity import Choice

LOWERINGS = {Device.CPU: LOWERING, Device.CUDA: CUDA_LOWERING}
"""The passes after a model is raised."""


@dataclass(frozen=True)
class Lowered:
    """The modules after the passes, each rank's for CPUs and for GPUs, what the model's blocks
    became, and the texts of the stages by their members' names."""

    modules: list[ModuleOp]
    cuda: list[ModuleOp]
    choices: Mapping[str, Choice | None]
    texts: dict[str, str]

    @property
    def ranks(self) -> int:
        return len(self.of_ranks)

    @property
    def of_ranks(self) -> list[ModuleOp]:
        """One for each rank, which speaks for it."""
        return self.modules or self.cuda

    @property
    def all(self) -> list[ModuleOp]:
        return [*self.modules, *self.cuda]

    @property
    def first(self) -> ModuleOp:
        """The one that speaks for the model; they all read the same weights."""
        return self.all[0]
