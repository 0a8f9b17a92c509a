"""What is tried and what is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from sparsecomp.calibrate.made import Made
from sparsecomp.evaluate import Estimate
from sparsecomp.passes.insert_predictors import (
    approximation_names,
    correction_names,
    predictor_names,
)
from sparsecomp.passes.sparsify_head import sketch_names
from sparsecomp.sparsity import Approximate, Choice, LowRank, Narrow, Nested, Plan, Sketch


@dataclass(frozen=True)
class Trial:
    """An artifact that was tried: what each block became (None: dense), and the bytes of weights
    that a token is expected to read."""

    choices: Mapping[str, Choice | None]
    bytes_per_token: int

    @property
    def is_dense(self) -> bool:
        return not any(self.choices.values())


@dataclass(frozen=True)
class Sparsified:
    """What was found: a plan for the passes, the weights made for it, and what to tell about it.

    `recipe` (YAML) and `record` (JSON) go into the artifact, `notes` are lines for the user.
    """

    plan: Plan
    made: Made
    recipe: str = ""
    record: bytes = b""
    notes: tuple[str, ...] = ()

    def weights(self, choices: Mapping[str, Choice | None]) -> dict[str, torch.Tensor]:
        """The weights that were made, by name, float32, for what the blocks became."""
        found: dict[str, torch.Tensor] = {}
        for module, choice in choices.items():
            if isinstance(choice, LowRank):
                made = self.made.predictor(module, choice.rank)
                tensors = (made.down, made.up, made.bias)
                found |= zip(predictor_names(module), tensors, strict=True)
            elif isinstance(choice, Approximate):
                of = self.made.approximation(module, choice.rank)
                matrices = (of.basis, of.gate, of.up, of.bias)
                named = zip(approximation_names(module), matrices, strict=True)
                found |= {name: matrix for name, matrix in named if matrix is not None}
            elif isinstance(choice, Nested) and choice.rank:
                pair = self.made.correction(module, choice.rank)
                found |= zip(correction_names(module), pair, strict=True)
            elif isinstance(choice, Narrow):
                found |= self.made.narrow(module, choice)
            elif isinstance(choice, Sketch):
                sketch = self.made.sketch(module)
                parts = (sketch.axes, sketch.axes_bias, sketch.rows, sketch.bias)
                found |= zip(sketch_names(module), parts, strict=True)
        return found


TryOut = Callable[[Sparsified | None, Path], Trial]
"""Compiles an artifact for this machine; None: a dense one."""


@dataclass(frozen=True)
class Attempt:
    """A plan that was compiled and measured: nats spent by prediction, and the ratio of
    perplexities on the search split, with its interval.

    `used` is the share of the budget that it may use on unseen text: by the upper end of the
    interval, or by what text of another kind may do, whichever is more.
    """

    spend: float
    trial: Trial
    ratio: Estimate
    used: float

    @property
    def kept(self) -> bool:
        """Whether it keeps the budget."""
        return self.used <= 1
