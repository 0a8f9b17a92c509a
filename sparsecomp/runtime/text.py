"""From token ids to text as they come: whole characters only, and never a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sparsecomp.errors import SparsecompError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Tokens of the prompt that the first new ones are decoded behind.
_CONTEXT = 16


def parse_tokenizer(data: bytes, where: str) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes, for texts of any length.

    Raises SparsecompError, beginning with `where` it was read.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises bare Exception
        raise SparsecompError(f"{where} cannot be read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class TextDecoder:
    """Decodes a growing sequence of tokens piece by piece.

    What a token adds depends on those before it (a space at the start of a text is dropped, a
    character may take several tokens), so a window is decoded with and without the new tokens,
    and the difference is the piece. Special tokens give no text.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = ()) -> None:
        """The pieces will continue the text of `prompt`."""
        self._tokenizer = tokenizer
        self._window = list(prompt[-_CONTEXT:])
        self._known = len(self._window)  # tokens of the window whose text is out

    def feed(self, token: int) -> str:
        """The text that is complete with this token; "" while a character is not."""
        self._window.append(token)
        text = self._new_text()
        if not text or text.endswith(_REPLACEMENT):
            return ""
        self._window = self._window[self._known :]
        self._known = len(self._window)
        return text

    def flush(self) -> str:
        """What was held back; an unfinished character comes out as U+FFFD."""
        text = self._new_text()
        self._known = len(self._window)
        return text

    def _new_text(self) -> str:
        known = self._decode(self._window[: self._known])
        text = self._decode(self._window)
        # Not len(known): the prompt may end within a character.
        return text[_common_length(known, text) :]

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def _common_length(first: str, second: str) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


class StopMatcher:
    """Lets text through up to the stop text that is complete first.

    How the text is cut into pieces makes no difference.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def feed(self, piece: str) -> str:
        """The text that is certain not to be part of a stop text; sets `stopped`."""
        if self.stopped:
            return ""
        text = self._held + piece
        ends = [
            (text.find(stop) + len(stop), text.find(stop)) for stop in self._stop if stop in text
        ]
        if ends:
            self.stopped = True
            self._held = ""
            return text[: min(ends)[1]]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    return next(
        size for size in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:size])
    )
