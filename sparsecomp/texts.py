"""Text files, for calibration and evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sparsecomp.errors import SparsecompError

_PIECE = 1 << 20


@dataclass(frozen=True)
class Text:
    """A file of text; `sha256` is the hex hash of its bytes."""

    path: Path
    sha256: str
    content: str = field(repr=False)


def read_texts(paths: Iterable[Path]) -> list[Text]:
    """The texts of files, and of the .txt files of directories by name.

    Raises SparsecompError for what is missing, empty or not UTF-8 text.
    """
    return [_read(file) for path in paths for file in _files(path)]


def pieces(content: str) -> Iterator[str]:
    """The content in pieces to tokenise one by one: a tokenizer needs many times the memory of
    its text. They end with a line, where lines are not endless.
    """
    start = 0
    while start < len(content):
        newline = content.rfind("\n", start, start + _PIECE)
        at_end = start + _PIECE >= len(content)
        end = start + _PIECE if at_end or newline < 0 else newline + 1
        yield content[start:end]
        start = end


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.txt"))
    if not files:
        raise SparsecompError(f"{path}: holds no .txt file")
    return files


def _read(path: Path) -> Text:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SparsecompError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SparsecompError(f"{path}: not text (byte {error.start} is not UTF-8)") from error
    if "\0" in content:
        raise SparsecompError(f"{path}: not text (byte {data.index(0)} is NUL)")
    if not content.strip():
        raise SparsecompError(f"{path}: is empty")
    return Text(path, hashlib.sha256(data).hexdigest(), content)
