"""Held-out text: windows of tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.logits import FIRST_DECODED, Window
from sparsecomp.runtime import Model
from sparsecomp.texts import Text, pieces


def cut_windows(
    texts: Sequence[Text], model: Model, *, length: int, tokens: int | None = None
) -> list[Window]:
    """Windows of `length` tokens, one after another, of the texts' first `tokens` (None: of all).

    Texts follow each other without a break; what fills no whole window is left out. A window
    begins with what the tokenizer puts before a text, such as a BOS token.

    Raises SparsecompError when `length` does not suit the model, or the texts fill no window.
    """
    context = model.manifest.model.context
    prefix, _ = encode(model.tokenizer, "a")
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


def encode(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[int]]:
    """What a tokenizer puts before a text, and the text itself, as token ids."""
    encoding = tokenizer.encode(text)
    added = encoding.special_tokens_mask
    before = list(itertools.takewhile(bool, added))
    body = [token for token, is_added in zip(encoding.ids, added, strict=True) if not is_added]
    return encoding.ids[: len(before)], body


def _bodies(texts: Sequence[Text], model: Model) -> Iterator[list[int]]:
    for text in texts:
        for piece in pieces(text.content):
            yield encode(model.tokenizer, piece)[1]
