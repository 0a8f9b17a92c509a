"""What runs a model's steps: a native program on the CPU, or launches on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sparsecomp.runtime.native import Exchange


class Engine(Protocol):
    """Models and sessions are handles of its own: plain addresses, or None where memory is short.

    Nothing is checked below here: token ids and positions are checked by the session.
    """

    @property
    def steps(self) -> Sequence[tuple[str, str]]:
        """Kernel and module of each step of a decode that `profile` times, in order."""

    def open_model(self, weights_address: int) -> int | None:
        """The weights stay where they are until `close_model`."""

    def close_model(self, model: int) -> None:
        """Its sessions are all closed."""

    def open_session(self, model: int, capacity: int) -> int | None:
        """A sequence with room for `capacity` positions."""

    def close_session(self, session: int) -> None: ...

    def exchange(self, session: int, exchange: Exchange) -> None:
        """Has the session's steps add up over ranks; `exchange` must outlive it."""

    def prefill(
        self,
        session: int,
        tokens: npt.NDArray[np.int32],
        position: int,
        logits: npt.NDArray[np.float32] | None,
    ) -> None:
        """Processes `tokens` (n,) at position.. ; fills `logits` (vocab,) after the last one."""

    def decode(
        self,
        session: int,
        token: int,
        position: int,
        logits: npt.NDArray[np.float32],
        full_logits: bool,
    ) -> None:
        """Processes one token; fills `logits` (vocab,), all exactly if `full_logits`."""

    def counters(self, session: int, out: npt.NDArray[np.int64]) -> None:
        """Fills `out` (counters,) with what the session counted while decoding."""

    def trace(self, session: int, room: npt.NDArray[np.int32] | None) -> None:
        """Has each decode write its lists of chosen units into `room`; None ends it."""

    def profile(self, session: int, ticks: npt.NDArray[np.int64] | None) -> None:
        """Has each decode add the nanoseconds of each step to `ticks`; None ends it."""
