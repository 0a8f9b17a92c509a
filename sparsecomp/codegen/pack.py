"""Writes an artifact: streamed in one pass, whole or not at all.

The bytes go to a hidden file beside the destination, which takes its name only when all of them
are on the disk. A file that a killed compile left behind is taken over by the next one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import shutil
import signal
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime import artifact
from sparsecomp.runtime.artifact import Entry, Manifest, Member, layout

Buffer = bytes | bytearray | memoryview

# Sources hand over whole tensors: write and hash them in pieces that stay in the cache.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class WeightsLayout:
    """Where each weight goes.

    `header`: the member's first bytes. `tensors`: dtype, shape, offset and size of each weight,
    in order. `data_bytes`: size of the data section.
    """

    header: bytes
    tensors: Mapping[str, artifact.Tensor]
    data_bytes: int

    @property
    def offsets(self) -> dict[str, int]:
        """Byte offset of each weight in the data section: multiples of 64."""
        return {name: tensor.offset for name, tensor in self.tensors.items()}

    @property
    def member_bytes(self) -> int:
        """Size of the whole member."""
        return len(self.header) + self.data_bytes

    def chunks(self, weights: Iterable[tuple[str, Buffer]]) -> Iterator[Buffer]:
        """The member's bytes, for `ArtifactWriter.add_stream`.

        `weights` gives (name, bytes) in the order of the layout; one weight may come in several
        consecutive pieces. Raises ValueError when a name or a size is not the layout's.
        """
        yield self.header
        written = 0
        expected = iter(self.tensors.items())
        name, end = "", 0
        for given, data in weights:
            piece = memoryview(data).cast("B")
            if given != name or written == end:
                if written != end:
                    raise ValueError(f"weight {name!r} ends {end - written} bytes early")
                name, tensor = next(expected, ("", None))
                if given != name or tensor is None:
                    raise ValueError(f"weight {given!r} comes where {name!r} belongs")
                yield bytes(tensor.offset - written)
                written, end = tensor.offset, tensor.offset + tensor.size
            written += len(piece)
            if written > end:
                raise ValueError(f"weight {name!r} is {written - end} bytes too long")
            yield piece
        if written != self.data_bytes:
            raise ValueError(f"the weights end {self.data_bytes - written} bytes early")


def weights_layout(entries: Iterable[tuple[str, str, Sequence[int]]]) -> WeightsLayout:
    """Lays out weights in the given order, each on 64 bytes.

    `entries`: (name, dtype 'F32' or 'BF16', shape). Raises SparsecompError for a doubled name.
    """
    tensors = artifact.place_tensors(entries)
    data_bytes = max((tensor.offset + tensor.size for tensor in tensors.values()), default=0)
    return WeightsLayout(artifact.encode_weights_header(tensors), tensors, data_bytes)


class ArtifactWriter:
    """Writes one artifact; a context manager. Leaving it without `finish` leaves nothing.

    with ArtifactWriter(path, expected_bytes=layout.member_bytes) as writer:
        writer.add_bytes(artifact.SOURCE, source)
        writer.add_stream(artifact.WEIGHTS, layout.member_bytes, layout.chunks(weights))
        writer.finish(manifest)
    """

    def __init__(self, path: str | os.PathLike[str], expected_bytes: int = 0) -> None:
        """`expected_bytes`: what is going to be written at least, to refuse a full disk early.

        Raises SparsecompError when the destination cannot be written.
        """
        self.path = Path(path)
        self._target = Path(os.path.realpath(path))
        self._temporary = self._target.with_name(f".{self._target.name}.partial")
        self._expected_bytes = expected_bytes
        self._entries: list[Entry] = []
        self._members: dict[str, Member] = {}
        self._digest = hashlib.sha256()
        self._position = 0
        self._exit = contextlib.ExitStack()
        self._finished = False

    def __enter__(self) -> Self:
        if self._target.is_dir():
            raise SparsecompError(f"{self.path}: is a directory")
        if self._target.exists() and not self._target.is_file():
            raise SparsecompError(f"{self.path}: is not a regular file")
        with contextlib.ExitStack() as undo:
            undo.enter_context(_terminate_as_exit())
            with self._one_line_errors():
                self._fd = undo.enter_context(_open_exclusively(self._temporary, self.path))
                undo.callback(self._discard)
                free = shutil.disk_usage(self._target.parent).free
            if free < self._expected_bytes:
                raise SparsecompError(
                    f"{self.path}: needs {self._expected_bytes} bytes, "
                    f"{self._target.parent} has {free} bytes free"
                )
            self._exit = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.close()

    def add_bytes(self, name: str, data: Buffer) -> str:
        """Adds a member; returns the hex SHA-256 of its data. Raises SparsecompError."""
        return self.add_stream(name, len(data), (data,))

    def add_stream(self, name: str, size: int, chunks: Iterable[Buffer]) -> str:
        """Adds a member of `size` bytes as they come; returns the hex SHA-256 of its data.

        Raises SparsecompError when the disk is full, ValueError for a name that the layout does
        not know or that is there already, or when the chunks are not `size` bytes.
        """
        if name not in artifact.MEMBER_NAMES or any(name == entry.name for entry in self._entries):
            raise ValueError(f"{name!r} is doubled, or no member of an artifact")
        start = self._position
        self._write(layout.local_header(name, start))
        digest, crc, written = hashlib.sha256(), 0, 0
        for chunk in chunks:
            data = memoryview(chunk).cast("B")
            for piece in (data[i : i + _CHUNK] for i in range(0, len(data), _CHUNK)):
                self._write(piece)
                digest.update(piece)
                crc = zlib.crc32(piece, crc)
            written += len(data)
        if written != size:
            raise ValueError(f"{name}: {written} bytes were given, {size} were announced")
        entry = Entry(name, start, size, crc)
        self._write(layout.descriptor(entry))
        self._entries.append(entry)
        self._members[name] = Member(size, digest.hexdigest())
        return digest.hexdigest()

    def finish(self, manifest: Manifest) -> None:
        """Adds the manifest, with `members` filled in, and puts the artifact in its place.

        Raises SparsecompError when the disk is full, ValueError when members are missing.
        """
        members = dict(self._members)
        self.add_bytes(
            artifact.MANIFEST,
            artifact.encode_manifest(dataclasses.replace(manifest, members=members)),
        )
        if missing := artifact.required_members(manifest) - {entry.name for entry in self._entries}:
            raise ValueError(f"members are missing: {', '.join(sorted(missing))}")
        self._write(layout.directory(self._entries, self._position))
        self._write(layout.seal_comment(self._digest.hexdigest()))
        with self._one_line_errors():
            os.fsync(self._fd)
            _forget(self._fd)
            os.replace(self._temporary, self._target)
            self._finished = True
            _sync_directory(self._target.parent)

    def _write(self, data: Buffer) -> None:
        with self._one_line_errors(), memoryview(data) as left:
            while left:
                left = left[os.write(self._fd, left) :]
        self._digest.update(data)
        self._position += len(data)

    def _discard(self) -> None:
        if not self._finished:  # else the name may be another writer's by now
            self._temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                where = self._target.parent
                raise SparsecompError(
                    f"{self.path}: no space left in {where} after {self._position} bytes"
                ) from None
            raise SparsecompError(f"{self.path}: cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _open_exclusively(path: Path, destination: Path) -> Iterator[int]:
    """A descriptor of an empty file at `path`, held by a lock against another writer."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The other writer may have renamed the file between opening and locking.
            if _is_at(fd, path):
                os.ftruncate(fd, 0)
                yield fd
                return
        except BlockingIOError:
            raise SparsecompError(f"{destination}: is being written by another compile") from None
        finally:
            os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _terminate_as_exit() -> Iterator[None]:
    """Turns SIGTERM into SystemExit, so that what is half-written is removed."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _forget(fd: int) -> None:
    """Drop a synced file from memory: what was written page by page is not read in large pages."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
