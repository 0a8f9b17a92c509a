"""What this machine remembers for its user: code compiled here, and files already checked.

The directory is $SPARSECOMP_STATE_DIR, or sparsecomp under $XDG_STATE_HOME or ~/.local/state.
This is the only module of the runtime that reads the environment. A directory that cannot be
used never breaks anything: it just remembers nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path

from sparsecomp.errors import SparsecompError

_COMPILED = "compiled"
_SEALS = "seals"


@dataclass(frozen=True)
class FileIdentity:
    """A file as the file system tells it apart: changing the file changes one of these."""

    path: str
    size: int
    mtime_ns: int
    inode: int


def state_dir() -> Path:
    """The directory, which need not exist."""
    if chosen := os.environ.get("SPARSECOMP_STATE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME", "")
    # The XDG rules say to ignore a relative path.
    parent = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state"
    return parent / "sparsecomp"


def remember_compiled(sha256: str) -> bool:
    """Records native code that was compiled here, by its hex SHA-256, so that `load` runs it.

    Returns whether that could be written down. Safe beside other writers.
    """
    try:
        path = _usable_dir() / _COMPILED
        # One short append is one write: lines of two writers never mix.
        with open(path, "ab", buffering=0, opener=_private_file) as ledger:
            ledger.write(f"{sha256}\n".encode())
        return True
    except (OSError, SparsecompError):
        return False


def was_compiled_here(sha256: str) -> bool:
    """Whether `remember_compiled` recorded this code.

    Raises SparsecompError saying why when the record cannot be used.
    """
    try:
        ledger = (_usable_dir() / _COMPILED).read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SparsecompError(f"{error.filename}: {error.strerror}") from None
    return sha256.encode() in ledger.split(b"\n")


def remember_seal(identity: FileIdentity, seal: str) -> None:
    """Records that the file had this seal and matched it."""
    try:
        path = _seal_path(identity)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with open(fd, "w") as stream:
                json.dump([seal, *astuple(identity)], stream)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except (OSError, SparsecompError):
        pass  # the next load checks the file again


def remembered_seal(identity: FileIdentity) -> str | None:
    """The seal that this very file matched before, or None."""
    try:
        seal, *known = json.loads(_seal_path(identity).read_text())
    except (OSError, ValueError, TypeError, SparsecompError):
        return None
    return seal if known == list(astuple(identity)) else None


def _seal_path(identity: FileIdentity) -> Path:
    name = hashlib.sha256(os.fsencode(identity.path)).hexdigest()
    return _usable_dir() / _SEALS / name


def _usable_dir() -> Path:
    """The directory, made where it is missing. Raises OSError, or SparsecompError where
    somebody else could write to it: what it says decides which code is run."""
    directory = state_dir()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise SparsecompError(f"{directory}: others can write to it")
    return directory


def _private_file(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
