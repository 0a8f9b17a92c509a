"""How much each token counts where what is computed of it is rounded.

A small error in what a linear gives moves the divergence from the exact model by the square of the
gradient there, in expectation over tokens drawn from the model's own predictions: the Fisher
information. SmolLM2's first token moves all others through its value, a hundred times as much as
one of them does, and nothing through its query.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch.nn import functional as F

Name = TypeVar("Name")


def sensitivities(
    logits: torch.Tensor, values: Mapping[Name, torch.Tensor], generator: torch.Generator
) -> dict[Name, torch.Tensor]:
    """The weight (T,) of each token in each of the values (T, ...), which require gradients, by the
    logits (T, vocab) that were computed of them.

    It is the root of the mean square of the gradient, which is that of one token drawn at each
    place. One that is not finite counts nothing.
    """
    log_p = F.log_softmax(logits, dim=-1)
    drawn = torch.multinomial(log_p.detach().exp(), 1, generator=generator)
    gradients = torch.autograd.grad(
        log_p.gather(1, drawn).sum(), list(values.values()), materialize_grads=True
    )
    return {
        name: gradient.flatten(1).square().mean(1).sqrt().nan_to_num(0, 0, 0)
        for name, gradient in zip(values, gradients, strict=True)
    }
