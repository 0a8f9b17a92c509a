"""The C interface of a native program, loaded from memory.

What was hashed is what runs: the bytes go to an anonymous file, never to a path that another
process could change.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.manifest import ABI_VERSION
from sparsecomp.runtime.ranks import Ranks

_INT32_POINTER = ctypes.POINTER(ctypes.c_int32)
_INT64_POINTER = ctypes.POINTER(ctypes.c_int64)
_FLOAT_POINTER = ctypes.POINTER(ctypes.c_float)
_first_float = ctypes.c_float.from_buffer
"""Of a writable buffer; as an argument it is a pointer there."""
_EXCHANGE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, _FLOAT_POINTER, ctypes.c_int64)


class Exchange:
    """Has a session's steps replace vectors by their sums over all ranks.

    What `ranks` raise cannot pass through native code: the step runs to its end without adding up,
    and `check` raises it then. Must live as long as the session.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._raised: BaseException | None = None
        self.function = _EXCHANGE(self._call)

    def check(self) -> None:
        """Raises what went wrong since the last time."""
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    @property
    def is_on_gpu(self) -> bool:
        """Whether sums are made where a GPU's vectors are."""
        return self._ranks.add_up_on_gpu is not None

    def add_up(self, values: npt.NDArray[np.float32]) -> None:
        """Replaces `values` (n,) by their sums, unless something went wrong."""
        self._try(lambda: self._ranks.add_up(values))

    def add_up_on_gpu(self, address: int, count: int) -> None:
        """The same where `is_on_gpu`."""
        function = self._ranks.add_up_on_gpu
        assert function is not None
        self._try(lambda: function(address, count))

    def _try(self, exchange: Callable[[], None]) -> None:
        if self._raised is None:
            try:
                exchange()
            except BaseException as error:
                self._raised = error

    def _call(self, context: int | None, data: Any, count: int) -> None:
        self.add_up(np.ctypeslib.as_array(data, (count,)))


class NativeProgram:
    """The functions of one program. Handles are plain addresses; nothing is checked below here:
    token ids and positions are checked by the session."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Binds the functions. Raises SparsecompError for another ABI or a missing function."""
        pointer, int32, int64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
        version = _bind(library, "sc_abi_version", int32)()
        if version != ABI_VERSION:
            raise SparsecompError(
                f"it speaks ABI {version}, this runtime speaks {ABI_VERSION}; compile it again"
            )
        self._model_open = _bind(library, "sc_model_open", pointer, pointer)
        self._model_close = _bind(library, "sc_model_close", None, pointer)
        self._session_open = _bind(library, "sc_session_open", pointer, pointer, int64)
        self._session_close = _bind(library, "sc_session_close", None, pointer)
        self._prefill = _bind(
            library, "sc_prefill", int32, pointer, _INT32_POINTER, int64, int64, _FLOAT_POINTER
        )
        self._decode = _bind(
            library, "sc_decode", int32, pointer, int32, int64, _FLOAT_POINTER, int32
        )
        self._counters = _bind(
            library, "sc_session_counters", int32, pointer, _INT64_POINTER, int64
        )
        self._trace = _bind(library, "sc_session_trace", int32, pointer, _INT32_POINTER, int64)
        self._profile = _bind(library, "sc_session_profile", int32, pointer, _INT64_POINTER, int64)
        self._exchange = _bind(
            library, "sc_session_exchange", None, pointer, ctypes.c_void_p, pointer
        )
        self._steps = _bind(library, "sc_steps", ctypes.c_char_p)

    def open_model(self, weights_address: int) -> int | None:
        """A model handle, or None on failure. The weights stay in use until `close_model`."""
        handle: int | None = self._model_open(weights_address)
        return handle

    def close_model(self, model: int) -> None:
        """Frees a model whose sessions are all closed."""
        self._model_close(model)

    def open_session(self, model: int, capacity: int) -> int | None:
        """A session handle with room for `capacity` positions, or None when out of memory."""
        handle: int | None = self._session_open(model, capacity)
        return handle

    def close_session(self, session: int) -> None:
        """Frees a session."""
        self._session_close(session)

    def exchange(self, session: int, exchange: Exchange) -> None:
        """Has the session's steps add up over ranks; `exchange` must outlive it."""
        self._exchange(session, exchange.function, None)

    def prefill(
        self,
        session: int,
        tokens: npt.NDArray[np.int32],
        position: int,
        logits: npt.NDArray[np.float32] | None,
    ) -> None:
        """Processes `tokens` (n,) at position.. ; fills `logits` (vocab,) after the last one."""
        _succeed(
            self._prefill(
                session,
                tokens.ctypes.data_as(_INT32_POINTER),
                len(tokens),
                position,
                None if logits is None else logits.ctypes.data_as(_FLOAT_POINTER),
            )
        )

    def decode(
        self,
        session: int,
        token: int,
        position: int,
        logits: npt.NDArray[np.float32],
        full_logits: bool,
    ) -> None:
        """Processes one token; fills `logits` (vocab,), all exactly if `full_logits`."""
        _succeed(self._decode(session, token, position, _first_float(logits.data), full_logits))

    def counters(self, session: int, out: npt.NDArray[np.int64]) -> None:
        """Fills `out` (counters,) with what the session counted while decoding.

        Raises SparsecompError when the program has not as many.
        """
        _fit(self._counters(session, out.ctypes.data_as(_INT64_POINTER), len(out)), "counters")

    def trace(self, session: int, room: npt.NDArray[np.int32] | None) -> None:
        """Has each decode write its lists of chosen units into `room` (trace_slots,); None ends it.

        `room` must outlive that. Raises SparsecompError when it has not the program's size.
        """
        pointer = None if room is None else room.ctypes.data_as(_INT32_POINTER)
        _fit(self._trace(session, pointer, 0 if room is None else len(room)), "trace slots")

    def profile(self, session: int, ticks: npt.NDArray[np.int64] | None) -> None:
        """Has each decode add the nanoseconds of each worker at each of its `steps` to `ticks`
        (workers, steps); None ends it. `ticks` must outlive that."""
        pointer = None if ticks is None else ticks.ctypes.data_as(_INT64_POINTER)
        _fit(self._profile(session, pointer, 0 if ticks is None else ticks.size), "steps")

    @functools.cached_property
    def steps(self) -> tuple[tuple[str, str], ...]:
        """Kernel and module of each step of a decode, in order."""
        text: bytes = self._steps()
        lines = (line.partition(" ") for line in text.decode().splitlines())
        return tuple((kernel, module) for kernel, _, module in lines)


def _fit(code: int | None, what: str) -> None:
    if code != 0:
        raise SparsecompError(f"its native program has not the {what} that its manifest says")


_loaded: dict[str, NativeProgram] = {}
_loading = threading.Lock()


def load_program(code: bytes, sha256: str) -> NativeProgram:
    """Loads a shared library from memory; `sha256` is the hex hash of `code`.

    A program stays for the life of the process, as C++ code cannot be unloaded dependably, and
    is loaded once. Raises SparsecompError when it cannot be loaded.
    """
    with _loading:
        if sha256 not in _loaded:
            _loaded[sha256] = NativeProgram(_open_library(code))
        return _loaded[sha256]


def _open_library(code: bytes) -> ctypes.CDLL:
    try:
        if not hasattr(os, "memfd_create"):
            return _open_from_file(code)
        fd = os.memfd_create("sparsecomp")
        with open(fd, "wb", closefd=False) as file:
            file.write(code)
        # The descriptor stays open: the loader takes two libraries of one path for the same.
        return ctypes.CDLL(f"/proc/self/fd/{fd}")
    except OSError as error:
        raise SparsecompError(f"it cannot be loaded: {error}") from None


def _open_from_file(code: bytes) -> ctypes.CDLL:
    fd, path = tempfile.mkstemp(suffix=".so")
    try:
        with open(fd, "wb") as file:
            file.write(code)
        return ctypes.CDLL(path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _bind(
    library: ctypes.CDLL, name: str, result: type | None, *arguments: type
) -> Callable[..., Any]:
    try:
        function = getattr(library, name)
    except AttributeError:
        raise SparsecompError(f"it has no function {name}; compile it again") from None
    function.restype = result
    function.argtypes = arguments
    bound: Callable[..., Any] = function
    return bound


def _succeed(code: int | None) -> None:
    if code != 0:
        raise RuntimeError(f"the native program failed with code {code}")
