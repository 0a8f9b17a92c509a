"""The bytes of an artifact's zip: one canonical form, which any zip tool can read.

Every member is stored, its data starts on 64 bytes, and its CRC and size follow the data, so
that a file is written in one pass. All members use the zip64 fields whatever their size: one
form instead of two. The file ends with a comment, the seal: `spz1:` and the SHA-256, in hex, of
every byte before it.

Because the form is canonical, a reader only takes names, sizes and CRCs from the central
directory, encodes what must surround them, and compares.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.weights import ALIGNMENT, aligned

_VERSION_ZIP64 = 45
_MADE_ON_UNIX = 3 << 8 | _VERSION_ZIP64
_FLAG_DESCRIPTOR = 1 << 3
_DATE_1980_01_01 = 1 << 5 | 1
_MODE_RW_R_R = 0o100644 << 16
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "see the zip64 field"
_ZIP64_ID = 0x0001
_PADDING_ID = 0xD935  # registered for aligning data

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL_ZIP64 = struct.Struct("<2H2Q")
_CENTRAL_ZIP64 = struct.Struct("<2H3Q")
_PADDING = struct.Struct("<3H")
_DESCRIPTOR = struct.Struct("<4sL2Q")
_END_ZIP64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")

_SEAL_PREFIX = b"spz1:"
SEAL_SIZE = len(_SEAL_PREFIX) + 64
_TAIL_SIZE = _END_ZIP64.size + _LOCATOR.size + _END.size + SEAL_SIZE


@dataclass(frozen=True)
class Entry:
    """One member: `offset` is that of its local header, `size` is its data's, in bytes."""

    name: str
    offset: int
    size: int
    crc: int

    @property
    def data_start(self) -> int:
        """Where the data starts in the file: a multiple of 64."""
        smallest = _LOCAL.size + len(self.name) + _LOCAL_ZIP64.size + _PADDING.size
        return aligned(self.offset + smallest)

    @property
    def data_end(self) -> int:
        """Where the data ends in the file."""
        return self.data_start + self.size

    @property
    def end(self) -> int:
        """Where the next member starts."""
        return self.data_end + _DESCRIPTOR.size


def local_header(name: str, offset: int) -> bytes:
    """Everything from the member's offset to its data; size and CRC follow the data."""
    header = _LOCAL.size + len(name)
    extra = Entry(name, offset, 0, 0).data_start - offset - header
    padding = extra - _LOCAL_ZIP64.size
    return b"".join(
        (
            _LOCAL.pack(
                b"PK\3\4", _VERSION_ZIP64, _FLAG_DESCRIPTOR, 0, 0, _DATE_1980_01_01,
                0, _FULL32, _FULL32, len(name), extra,
            ),
            name.encode("ascii"),
            _LOCAL_ZIP64.pack(_ZIP64_ID, 16, 0, 0),
            _PADDING.pack(_PADDING_ID, padding - 4, ALIGNMENT).ljust(padding, b"\0"),
        )
    )  # fmt: skip


def descriptor(entry: Entry) -> bytes:
    """What follows the member's data."""
    return _DESCRIPTOR.pack(b"PK\7\x08", entry.crc, entry.size, entry.size)


def directory(entries: Sequence[Entry], start: int) -> bytes:
    """The central directory, at `start`, with everything that follows it up to the seal."""
    headers = b"".join(_central_header(entry) for entry in entries)
    return headers + _tail(len(entries), start, len(headers))


def seal_comment(sha256: str) -> bytes:
    """The zip's comment for the hex SHA-256 of all the bytes before it."""
    return _SEAL_PREFIX + sha256.encode("ascii")


def _central_header(entry: Entry) -> bytes:
    fixed = _CENTRAL.pack(
        b"PK\1\2", _MADE_ON_UNIX, _VERSION_ZIP64, _FLAG_DESCRIPTOR, 0, 0, _DATE_1980_01_01,
        entry.crc, _FULL32, _FULL32, len(entry.name), _CENTRAL_ZIP64.size, 0, 0, 0,
        _MODE_RW_R_R, _FULL32,
    )  # fmt: skip
    zip64 = _CENTRAL_ZIP64.pack(_ZIP64_ID, 24, entry.size, entry.size, entry.offset)
    return fixed + entry.name.encode("ascii") + zip64


def _tail(count: int, start: int, size: int) -> bytes:
    version = _VERSION_ZIP64
    return b"".join(
        (
            _END_ZIP64.pack(
                b"PK\6\6", _END_ZIP64.size - 12, _MADE_ON_UNIX, version, 0, 0, count, count,
                size, start,
            ),
            _LOCATOR.pack(b"PK\6\7", 0, start + size, 1),
            _END.pack(
                b"PK\5\6", 0, 0, _FULL16, _FULL16, _FULL32, _FULL32, SEAL_SIZE
            ),
        )
    )  # fmt: skip


def read_seal(file: memoryview) -> str:
    """The hex SHA-256 in the comment. Raises SparsecompError where there is none."""
    comment = bytes(file[-SEAL_SIZE:])
    if len(file) < _TAIL_SIZE or not comment.startswith(_SEAL_PREFIX):
        if bytes(file[:4]) == b"PK\3\4":
            raise SparsecompError("is cut short, or is a zip that sparsecomp did not write")
        raise SparsecompError("is not a sparsecomp artifact")
    return comment[len(_SEAL_PREFIX) :].decode("ascii", "replace")


def read_directory(file: memoryview, known_names: Container[str]) -> tuple[Entry, ...]:
    """The members in the order in which they lie, after checking that all but their data is
    exactly what this layout writes. Raises SparsecompError naming the member that is not."""
    tail_start = len(file) - _TAIL_SIZE
    *_, count, size, start = _END_ZIP64.unpack_from(file, tail_start)
    if start + size != tail_start or (file[tail_start:-SEAL_SIZE] != _tail(count, start, size)):
        raise SparsecompError("the end of its directory is not what sparsecomp writes")
    entries: list[Entry] = []
    position = 0
    for entry, header in _central_entries(file[start:tail_start], known_names):
        name = entry.name
        if any(name == other.name for other in entries):
            raise SparsecompError(f"member {name!r} is there twice")
        if entry.offset != position or entry.end > start:
            raise SparsecompError(f"member {name!r} does not lie behind the one before it")
        if (
            header != _central_header(entry)
            or file[position : entry.data_start] != local_header(name, position)
            or file[entry.data_end : entry.end] != descriptor(entry)
        ):
            raise SparsecompError(f"member {name!r} has headers that sparsecomp does not write")
        entries.append(entry)
        position = entry.end
    if position != start or len(entries) != count:
        raise SparsecompError("there are bytes that belong to no member")
    return tuple(entries)


def _central_entries(
    headers: memoryview, known_names: Container[str]
) -> Iterator[tuple[Entry, memoryview]]:
    """Each entry of the central directory with its raw bytes."""
    position = 0
    while position < len(headers):
        raw = headers[position:]
        if len(raw) < _CENTRAL.size:
            raise SparsecompError("its directory is cut short")
        fields = _CENTRAL.unpack_from(raw)
        flags, method, crc, name_size, extra_size, comment_size = (
            fields[i] for i in (3, 4, 7, 10, 11, 12)
        )
        name = bytes(raw[_CENTRAL.size :][:name_size]).decode("ascii", "backslashreplace")
        if name not in known_names:
            raise SparsecompError(f"member {name!r} is not one that an artifact may hold")
        if method:
            raise SparsecompError(f"member {name!r} is compressed; members must be stored")
        if flags & 1:
            raise SparsecompError(f"member {name!r} is encrypted")
        zip64_start = _CENTRAL.size + name_size
        size = zip64_start + extra_size + comment_size
        if extra_size != _CENTRAL_ZIP64.size or size > len(raw):
            raise SparsecompError(f"member {name!r} has headers that sparsecomp does not write")
        *_, data_size, offset = _CENTRAL_ZIP64.unpack_from(raw, zip64_start)
        yield Entry(name, offset, data_size, crc), raw[:size]
        position += size
