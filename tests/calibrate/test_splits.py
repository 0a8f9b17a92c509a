"""Texts to splits, and the texts that are too short."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from sparsecomp.calibrate import text as module
from sparsecomp.calibrate.text import Splits, read_texts, split
from sparsecomp.errors import SparsecompError
from sparsecomp.texts import Text


def encode(text: str) -> tuple[list[int], list[int]]:
    """A token for each word: its number."""
    return [], [int(word[1:]) for word in text.split() if word != "a"]


def encode_with_bos(text: str) -> tuple[list[int], list[int]]:
    return [1], encode(text)[1]


def words(start: int, count: int, name: str = "a.txt") -> Text:
    return Text(Path(name), "", " ".join(f"w{i:06}" for i in range(start, start + count)))


def ids(part: module.Split) -> list[int]:
    return np.concatenate(part.windows).tolist()


def test_splits_are_disjoint_and_in_order() -> None:
    parts = split([words(0, 10_000), words(50_000, 5_000)], encode, window=64)
    train, search, test = (set(ids(p)) for p in (parts.train, parts.search, parts.test))
    assert not train & search and not train & test and not search & test
    assert {len(w) for p in (parts.train, parts.search, parts.test) for w in p.windows} == {64}
    assert {w.dtype for w in parts.train.windows} == {np.dtype(np.int32)}
    # Of each text the first 70 %, the next 20 % and the last 10 %.
    first = [{i for i in part if i < 50_000} for part in (train, search, test)]
    assert [min(part) for part in first] == [0, 7000, 9000]
    assert max(first[0]) < 7000 and max(first[1]) < 9000
    second = [{i for i in part if i >= 50_000} for part in (train, search, test)]
    assert [min(part) for part in second] == [50_000, 53_500, 54_500]
    assert parts.train.tokens == len(train) == 10_500 // 64 * 64


def test_hashes_are_of_the_tokens() -> None:
    texts = [words(0, 6000)]
    one, two = (split(texts, encode, window=64) for _ in range(2))
    assert [ids(one.train), ids(one.search)] == [ids(two.train), ids(two.search)]
    assert one.test.sha256 == two.test.sha256
    for part in (one.train, one.search, one.test):
        data = np.concatenate(part.windows).astype("<i4").tobytes()
        assert part.sha256 == hashlib.sha256(data).hexdigest()
    assert split([words(1, 6000)], encode, window=64).train.sha256 != one.train.sha256


def test_a_budget_is_shared_by_the_texts() -> None:
    texts = [words(0, 100_000), words(200_000, 3_000), words(300_000, 100_000)]
    parts = split(texts, encode, window=64, tokens=(6400, 1000, 640))
    assert [p.tokens for p in (parts.train, parts.search, parts.test)] == [6400, 960, 640]
    counts = np.histogram(ids(parts.train), [0, 200_000, 300_000, 400_000])[0]
    # The short one has 2100 tokens to train on: 32 windows.
    assert counts.tolist() == [34 * 64, 32 * 64, 34 * 64]


def test_what_a_tokenizer_puts_before_a_text_begins_each_window() -> None:
    parts = split([words(2, 6000)], encode_with_bos, window=64)
    assert {int(w[0]) for w in parts.train.windows} == {1}
    assert np.concatenate([w[1:] for w in parts.train.windows]).tolist() == [
        *range(2, 2 + 63 * len(parts.train.windows))
    ]


def test_too_short() -> None:
    with pytest.raises(SparsecompError) as error:
        split([words(0, 1000, "x.txt"), words(0, 500, "y.txt")], encode, window=64)
    assert str(error.value) == (
        "x.txt, y.txt: 1500 tokens of text are too few to calibrate with; give 4096 at least"
    )
    # Enough tokens, but none of the splits may be empty.
    with pytest.raises(SparsecompError, match=r"5000 tokens .* give 10240 at least"):
        split([words(0, 5000)], encode, window=1024)


def test_few_tokens_when_few_are_asked_for() -> None:
    parts: Splits = split([words(0, 1000)], encode, window=16, tokens=(64, 32, 16))
    assert [len(p.windows) for p in (parts.train, parts.search, parts.test)] == [4, 2, 1]


def test_the_packages_own_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.txt").write_text("w1 w2")
    monkeypatch.setattr(module, "DEFAULT_TEXT", tmp_path)
    assert [t.content for t in read_texts([])] == ["w1 w2"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"good \xff bad", "not text (byte 5 is not UTF-8)"),
        (b"\x7fELF\0\0", "not text (byte 4 is NUL)"),
        (b" \n", "is empty"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_no_text(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "bad.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SparsecompError) as error:
        read_texts([path])
    assert str(error.value) == f"{path}: {message}"
