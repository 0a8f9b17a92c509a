"""Loads a compiled artifact and runs it: numpy and tokenizers, no compiler and no torch.

import sparsecomp.runtime as rt

with rt.load("out.spz") as model:
    for piece in model.stream("Once upon a time", max_new_tokens=64):
        print(piece, end="")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsecomp.runtime import artifact, state
    from sparsecomp.runtime.artifact import Artifact
    from sparsecomp.runtime.generation import FinishReason, TextStream, TokenStream
    from sparsecomp.runtime.model import Model, load
    from sparsecomp.runtime.ranks import Ranks
    from sparsecomp.runtime.sampling import SamplingParams
    from sparsecomp.runtime.session import Session
    from sparsecomp.runtime.stats import BlockStats, Stats, StepTime

__all__ = [
    "Artifact",
    "BlockStats",
    "FinishReason",
    "Model",
    "Ranks",
    "SamplingParams",
    "Session",
    "Stats",
    "StepTime",
    "TextStream",
    "TokenStream",
    "artifact",
    "load",
    "state",
]

_HOME = {
    "Artifact": "artifact",
    "BlockStats": "stats",
    "FinishReason": "generation",
    "Model": "model",
    "Ranks": "ranks",
    "SamplingParams": "sampling",
    "Session": "session",
    "Stats": "stats",
    "StepTime": "stats",
    "TextStream": "generation",
    "TokenStream": "generation",
    "load": "model",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that reading an artifact costs no numpy and importing costs nothing.
    if name in ("artifact", "state"):
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
