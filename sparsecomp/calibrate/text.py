"""The text of a calibration, as three splits of token windows."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsecomp import texts
from sparsecomp.errors import SparsecompError
from sparsecomp.texts import Text, pieces

Encode = Callable[[str], tuple[list[int], list[int]]]
"""What a tokenizer puts before a text (such as a BOS token), and the text itself, as ids."""

DEFAULT_TEXT = Path(__file__).parent / "text"
MIN_TOKENS = 4096
WINDOW = 256
SHARES = (0.7, 0.2, 0.1)
"""Of each file, from its beginning: train, search, test."""
TOKENS = (65536, 20480, 8192)
"""At most so many tokens of each split. What is measured on the search split is known to within an
interval, and what that is wide cannot be spent: of a budget of 1 %, a third with 8,192 tokens, a
quarter with 20,480 (SmolLM2)."""


@dataclass(frozen=True)
class Split:
    """Windows of token ids, (tokens,) int32 each; `sha256` is the hex hash of all ids in order."""

    windows: tuple[np.ndarray, ...]
    sha256: str

    @property
    def tokens(self) -> int:
        return sum(len(window) for window in self.windows)


@dataclass(frozen=True)
class Splits:
    """Disjoint texts: `train` for predictors, `search` for densities; `test` decides nothing."""

    train: Split
    search: Split
    test: Split


def read_texts(paths: Sequence[Path]) -> list[Text]:
    """The texts of files and directories (their .txt files); of none, the package's own text.

    Raises SparsecompError for what is missing, empty or not UTF-8 text.
    """
    return texts.read_texts(paths or [DEFAULT_TEXT])


def split(
    texts: Sequence[Text],
    encode: Encode,
    window: int = WINDOW,
    tokens: tuple[int, int, int] = TOKENS,
) -> Splits:
    """Cut each text into contiguous parts by `SHARES`, and these into windows of `window` tokens.

    A split takes windows from its texts in turn, up to its share of `tokens`, so that each text
    has its say however long the others are.

    Raises SparsecompError when the texts hold fewer than `MIN_TOKENS` tokens, or fill no window of
    each split.
    """
    ends = list(itertools.accumulate(SHARES))
    starts = [0.0, *ends[:-1]]
    cut = [
        _windows([_part(t.content, a, b) for t in texts], encode, window, most)
        for a, b, most in zip(starts, ends, tokens, strict=True)
    ]
    found = sum(windows.found for windows in cut)
    wanted = sum(most // window * window for most in tokens)
    if found < min(MIN_TOKENS, wanted) or not all(part.windows for part in cut):
        names = ", ".join(str(text.path) for text in texts)
        needed = max(MIN_TOKENS, round(window / min(SHARES)))
        raise SparsecompError(
            f"{names}: {found} tokens of text are too few to calibrate with; give {needed} at least"
        )
    return Splits(*(Split(w.windows, _sha256(w.windows)) for w in cut))


@dataclass(frozen=True)
class _Windows:
    windows: tuple[np.ndarray, ...]
    found: int
    """Tokens read, those that fill no window among them."""


def _windows(parts: Sequence[str], encode: Encode, window: int, most: int) -> _Windows:
    before, _ = encode("a")
    body = window - len(before)
    streams = [_ids(part, encode) for part in parts]
    windows: list[np.ndarray] = []
    rest: list[int] = []

    def add(chunk: list[int]) -> None:
        windows.append(np.array(before + chunk, np.int32))

    while streams and (len(windows) + 1) * window <= most:
        stream = streams.pop(0)
        chunk = list(itertools.islice(stream, body))
        if len(chunk) == body:
            add(chunk)
            streams.append(stream)
        else:
            rest += chunk
    # The ends of texts, one after another.
    while len(rest) >= body and (len(windows) + 1) * window <= most:
        add(rest[:body])
        rest = rest[body:]
    return _Windows(tuple(windows), len(windows) * window + len(rest))


def _ids(part: str, encode: Encode) -> Iterator[int]:
    for piece in pieces(part):
        yield from encode(piece)[1]


def _part(content: str, start: float, end: float) -> str:
    """From one share of the text to another, moved on to the next word."""
    return content[_boundary(content, start) : _boundary(content, end)]


def _boundary(content: str, share: float) -> int:
    at = min(round(share * len(content)), len(content))
    if at in (0, len(content)):
        return at
    space = content.find(" ", at)
    return len(content) if space < 0 else space


def _sha256(windows: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for window in windows:
        digest.update(window.astype("<i4").tobytes())
    return digest.hexdigest()
