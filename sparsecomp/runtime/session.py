"""One sequence of tokens on a model: its KV cache and its position."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from sparsecomp.errors import SparsecompError

if TYPE_CHECKING:
    from sparsecomp.runtime.model import Model

Logits = npt.NDArray[np.float32]

# Control returns to Python between chunks, so that a long prompt can be interrupted.
_PREFILL_CHUNK = 512


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
        self._lock = threading.RLock()
        self._handle: int | None = model._open_session(capacity)

    @property
    def capacity(self) -> int:
        """How many positions there is room for."""
        return self._capacity

    @property
    def position(self) -> int:
        """How many tokens have been processed: the position of the next one."""
        return self._position

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Processes tokens in order; returns the logits after the last one, float32 (vocab,).

        Raises SparsecompError when `tokens` is empty, holds an id that the model does not have,
        or is longer than the room that is left.
        """
        ids = self._model.check_tokens(tokens)
        with self._lock:
            handle = self._opened()
            self._require_room(len(ids))
            logits = np.empty(self._model.manifest.model.vocab_size, np.float32)
            for start in range(0, len(ids), _PREFILL_CHUNK):
                chunk = ids[start : start + _PREFILL_CHUNK]
                last = start + len(chunk) == len(ids)
                self._model._program.prefill(
                    handle, chunk, self._position, logits if last else None
                )
                self._advance(len(chunk))
            return logits

    def decode(self, token: int) -> Logits:
        """Processes one token; returns the logits after it, float32 (vocab,).

        Raises SparsecompError for an id that the model does not have, or without room.
        """
        (checked,) = self._model.check_tokens((token,))
        with self._lock:
            handle = self._opened()
            self._require_room(1)
            logits = np.empty(self._model.manifest.model.vocab_size, np.float32)
            self._model._program.decode(handle, int(checked), self._position, logits)
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

    def _require_room(self, count: int) -> None:
        if self._position + count > self._capacity:
            raise SparsecompError(
                f"{count} tokens at position {self._position}: "
                f"the session has room for {self._capacity} positions"
            )

    def _advance(self, count: int) -> None:
        self._position += count
        self._furthest = max(self._furthest, self._position)
