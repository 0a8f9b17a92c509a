"""One sequence of tokens on a model: its KV cache and its position."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.native import Exchange
from sparsecomp.runtime.stats import Stats, StepTime, make_stats

if TYPE_CHECKING:
    from sparsecomp.runtime.model import Model

Logits = npt.NDArray[np.float32]

# Control returns to Python between chunks, so that a long prompt can be interrupted.
_PREFILL_CHUNK = 512

# A decode step leaves nothing but weights in the caches: every name that is looked up after it, and
# every object that is made, is read from memory anew. See `Model.check_token`.
_empty, _FLOAT32 = np.empty, np.dtype(np.float32)


class Session:
    """A sequence; make one with `Model.session`. Sessions do not affect each other.

    Calls from several threads are done one after another. Use it as a context manager, or call
    `close`; closing the model closes its sessions.
    """

    def __init__(self, model: Model, capacity: int) -> None:
        self._model = model
        self._capacity = capacity
        self._position = 0
        self._furthest = 0
        self._prefilled = 0
        self._trace: npt.NDArray[np.int32] | None = None
        self._ticks: npt.NDArray[np.int64] | None = None
        self._lock = threading.RLock()
        self._handle: int | None = model._open_session(capacity)
        self._exchange: Exchange | None = None
        if model.ranks is not None:
            self._exchange = Exchange(model.ranks)
            model._program.exchange(self._handle, self._exchange)
        self._counted_before = np.zeros(model.manifest.counters, np.int64)

    @property
    def capacity(self) -> int:
        """How many positions there is room for."""
        return self._capacity

    @property
    def position(self) -> int:
        """How many tokens have been processed: the position of the next one."""
        return self._position

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Processes tokens in order; returns the logits after the last one, float32 (vocab,), or
        of one rank those of its part of the vocabulary.

        Raises SparsecompError when `tokens` is empty, holds an id that the model does not have,
        or is longer than the room that is left.
        """
        ids = self._model.check_tokens(tokens)
        with self._lock:
            handle = self._opened()
            self._require_room(len(ids))
            logits = np.empty(self._model.logits_size, np.float32)
            for start in range(0, len(ids), _PREFILL_CHUNK):
                chunk = ids[start : start + _PREFILL_CHUNK]
                last = start + len(chunk) == len(ids)
                # Ranks do all in step, even what nobody asked for.
                wanted = last or self._exchange is not None
                self._model._program.prefill(
                    handle, chunk, self._position, logits if wanted else None
                )
                if self._exchange is not None:
                    self._exchange.check()
                self._advance(len(chunk))
                self._prefilled += len(chunk)
            return logits

    def decode(self, token: int, *, full_logits: bool = False) -> Logits:
        """Processes one token; returns the logits after it, float32, as `prefill`.

        Where the model's head is sketched, the `manifest.exact_logits` largest are exact and the
        others approximate; with `full_logits` all are exact, by reading all of the head.

        Raises SparsecompError for an id that the model does not have, or without room.
        """
        checked = self._model.check_token(token)
        with self._lock:
            handle = self._opened()
            self._require_room(1)
            logits = _empty(self._model.logits_size, _FLOAT32)
            self._model._program.decode(handle, checked, self._position, logits, full_logits)
            if self._exchange is not None:
                self._exchange.check()
            self._advance(1)
            return logits

    def rewind(self, position: int) -> None:
        """Goes back so that the next token is processed at `position`.

        Raises SparsecompError for a position not reached yet, or one that a sliding-window
        layer has forgotten what came before (0 is always possible).
        """
        with self._lock:
            self._opened()
            if not 0 <= position <= self._position:
                raise SparsecompError(
                    f"position {position}: the session can be rewound to 0..{self._position}"
                )
            limit = self._model.manifest.model.rewind_limit
            if limit is not None and 0 < position < self._furthest - limit:
                raise SparsecompError(
                    f"position {position}: the sliding window goes back to "
                    f"{self._furthest - limit}; rewind to there, or to 0"
                )
            self._position = position
            if position == 0:
                self._furthest = 0  # everything will be written again

    def stats(self) -> Stats:
        """What was decoded since the session began or `reset_stats`: tokens, bytes read, densities.

        Counted by the program as it runs. Raises SparsecompError where the artifact's manifest and
        program do not agree.
        """
        with self._lock:
            counted = self._counters() - self._counted_before
            return make_stats(self._model.manifest, counted.tolist(), self._prefilled)

    def reset_stats(self) -> None:
        """Begins counting anew."""
        with self._lock:
            self._counted_before = self._counters()
            self._prefilled = 0

    def trace(self, on: bool = True) -> None:
        """Whether decode steps keep their lists of chosen units for `chosen`; at first not."""
        with self._lock:
            handle = self._opened()
            room = np.zeros(self._model.manifest.trace_slots, np.int32) if on else None
            self._model._program.trace(handle, room)
            self._trace = room

    def chosen(self) -> tuple[npt.NDArray[np.int32], ...]:
        """The units that the last decode step chose, ascending, for each of the manifest's blocks.

        Raises SparsecompError where `trace` is off.
        """
        with self._lock:
            if self._trace is None:
                raise SparsecompError("the session does not trace; call trace() first")
            lists = []
            for block in self._model.manifest.blocks:
                first = block.trace + 1
                lists.append(self._trace[first : first + self._trace[block.trace]].copy())
            return tuple(lists)

    def profile(self, on: bool = True) -> None:
        """Whether decode steps time their kernels for `step_seconds`; at first not."""
        with self._lock:
            handle, program = self._opened(), self._model._program
            shape = self._model.workers, len(program.steps)
            ticks = np.zeros(shape, np.int64) if on else None
            program.profile(handle, ticks)
            self._ticks = ticks

    @property
    def workers(self) -> int:
        """Threads that a step runs on, the caller's among them."""
        return self._model.workers

    def step_seconds(self, worker: int = 0) -> tuple[StepTime, ...]:
        """Seconds that a worker spent in each kernel and barrier of decode, since `profile`.

        Raises SparsecompError where `profile` is off.
        """
        with self._lock:
            ticks = self.step_nanoseconds()[worker].tolist()
            steps = zip(self._model._program.steps, ticks, strict=True)
            return tuple(StepTime(*step, taken * 1e-9) for step, taken in steps)

    def step_nanoseconds(self) -> npt.NDArray[np.int64]:
        """Of each worker at each step (workers, steps), since `profile`; quick enough to be called
        between tokens.

        Raises SparsecompError where `profile` is off.
        """
        with self._lock:
            if self._ticks is None:
                raise SparsecompError("the session does not profile; call profile() first")
            return self._ticks.copy()

    def close(self) -> None:
        """Frees the KV cache. Closing twice is fine."""
        with self._lock:
            handle, self._handle = self._handle, None
            if handle is not None:
                self._model._program.close_session(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def _opened(self) -> int:
        if self._handle is None:
            raise SparsecompError("the session is closed")
        return self._handle

    def _counters(self) -> npt.NDArray[np.int64]:
        counted = np.zeros(self._model.manifest.counters, np.int64)
        self._model._program.counters(self._opened(), counted)
        return counted

    def _require_room(self, count: int) -> None:
        if self._position + count > self._capacity:
            raise SparsecompError(
                f"{count} tokens at position {self._position}: "
                f"the session has room for {self._capacity} positions"
            )

    def _advance(self, count: int) -> None:
        self._position += count
        self._furthest = max(self._furthest, self._position)
