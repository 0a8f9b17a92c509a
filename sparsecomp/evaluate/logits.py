"""Where the scored logits come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime import Model

Logits = npt.NDArray[np.float32]

FIRST_DECODED = 2
"""The first token of a window that a decode step predicts: token 0 is prefilled, and token 1 is
predicted by that prefill."""


@dataclass(frozen=True)
class Window:
    """Token ids int32 (n,), of which those from `first` on are scored, each given all before it.

    `first` is FIRST_DECODED or later, and less than n.
    """

    ids: npt.NDArray[np.int32]
    first: int

    @property
    def targets(self) -> npt.NDArray[np.int32]:
        """The scored tokens, (n - first,)."""
        return self.ids[self.first :]


class LogitSource(Protocol):
    """A model whose predictions can be scored."""

    @property
    def name(self) -> str:
        """What to call it in an error."""

    def logits(self, window: Window) -> Iterator[Logits]:
        """For each of `window.targets`, in order, the logits that predict it: float32 (vocab,)."""


class ArtifactLogits:
    """An artifact's decode path: one token prefilled, every other one decoded by itself; with
    `full_logits` by all of its head."""

    def __init__(self, model: Model, *, full_logits: bool = False) -> None:
        self.model = model
        self.full_logits = full_logits

    @property
    def name(self) -> str:
        return str(self.model.artifact.path)

    def logits(self, window: Window) -> Iterator[Logits]:
        context = self.model.manifest.model.context
        if len(window.ids) > context:
            raise SparsecompError(
                f"{self.name}: its context is {context}, less than the {len(window.ids)} tokens "
                "to score at once; compile it with a greater --context"
            )
        with self.model.session(len(window.ids) - 1) as session:
            first, *rest = window.ids[:-1].tolist()
            session.prefill([first])
            for position, token in enumerate(rest, start=1):
                row = session.decode(token, full_logits=self.full_logits)
                if position + 1 >= window.first:
                    yield row
