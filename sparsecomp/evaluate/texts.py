"""Held-out text: files in, windows of tokens out."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.logits import FIRST_DECODED, Window
from sparsecomp.runtime import Model

_PIECE = 1 << 20
"""Characters tokenised at once: a tokenizer needs many times the memory of its text."""


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


def cut_windows(
    texts: Sequence[Text], model: Model, *, length: int, tokens: int | None = None
) -> list[Window]:
    """Windows of `length` tokens, one after another, of the texts' first `tokens` (None: of all).

    Texts follow each other without a break; what fills no whole window is left out. A window
    begins with what the tokenizer puts before a text, such as a BOS token.

    Raises SparsecompError when `length` does not suit the model, or the texts fill no window.
    """
    context = model.manifest.model.context
    prefix, _ = encode(model, "a")
    shortest = max(FIRST_DECODED, len(prefix)) + 1
    if not shortest <= length <= context:
        raise SparsecompError(
            f"window {length}: must be {shortest} tokens to the context of "
            f"{model.artifact.path}, {context}"
        )
    if tokens is not None and tokens < length:
        raise SparsecompError(f"tokens {tokens}: must be a window of {length} at least")
    ids = itertools.chain.from_iterable(_bodies(texts, model))
    body = length - len(prefix)
    most = None if tokens is None else tokens // length
    windows: list[Window] = []
    while most is None or len(windows) < most:
        chunk = list(itertools.islice(ids, body))
        if len(chunk) < body:
            break
        windows.append(Window(np.array(prefix + chunk, np.int32), shortest - 1))
    if not windows:
        names = ", ".join(str(text.path) for text in texts)
        raise SparsecompError(
            f"{names}: too short for a window of {length} tokens; give more text, "
            "or a smaller window"
        )
    return windows


def encode(model: Model, text: str) -> tuple[list[int], list[int]]:
    """What the model's tokenizer puts before a text, and the text itself, as token ids."""
    encoding = model.tokenizer.encode(text)
    added = encoding.special_tokens_mask
    before = list(itertools.takewhile(bool, added))
    body = [token for token, is_added in zip(encoding.ids, added, strict=True) if not is_added]
    return encoding.ids[: len(before)], body


def _bodies(texts: Sequence[Text], model: Model) -> Iterator[list[int]]:
    for text in texts:
        for piece in _pieces(text.content):
            yield encode(model, piece)[1]


def _pieces(content: str) -> Iterator[str]:
    """The content in pieces that end with a line, where lines are not endless."""
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
