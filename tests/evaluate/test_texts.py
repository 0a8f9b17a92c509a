"""Text files to windows, and the files that are none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from evaluate_support import WORDS

import sparsecomp.runtime as rt
from sparsecomp import texts as module
from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate import Text, cut_windows, read_texts


def text_of(content: str) -> list[Text]:
    return [Text(Path("held.txt"), "", content)]


IDS = [int(word[1:]) for word in WORDS.split()]


def test_windows_lie_end_to_end(model: rt.Model) -> None:
    windows = cut_windows(text_of(WORDS), model, length=64)
    assert len(windows) == 300 // 64
    assert np.concatenate([w.ids for w in windows]).tolist() == IDS[: 4 * 64]
    assert {w.first for w in windows} == {2}
    assert {w.ids.dtype for w in windows} == {np.dtype(np.int32)}


def test_texts_follow_each_other(model: rt.Model) -> None:
    parts = text_of("w5 w6 w7") + text_of("w8 w9 w10 w11")
    (window,) = cut_windows(parts, model, length=6)
    assert window.ids.tolist() == [5, 6, 7, 8, 9, 10]


def test_tokens_limit_the_text(model: rt.Model) -> None:
    assert len(cut_windows(text_of(WORDS), model, length=64, tokens=191)) == 2
    assert len(cut_windows(text_of(WORDS), model, length=64, tokens=10_000)) == 4


def test_each_window_begins_as_the_tokenizer_begins_a_text(other_model: rt.Model) -> None:
    windows = cut_windows(text_of(WORDS), other_model, length=11)
    assert {int(w.ids[0]) for w in windows} == {1}
    assert np.concatenate([w.ids[1:] for w in windows]).tolist() == IDS
    assert {w.first for w in windows} == {2}


def test_long_texts_are_tokenised_in_pieces(
    model: rt.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = WORDS.replace(" w1", "\nw1")
    whole = cut_windows(text_of(lines), model, length=50)
    monkeypatch.setattr(module, "_PIECE", 200)
    pieces = list(module.pieces(lines))
    assert "".join(pieces) == lines and len(pieces) > 3
    assert all(piece.endswith("\n") for piece in pieces[:-1])
    cut = cut_windows(text_of(lines), model, length=50)
    assert [w.ids.tolist() for w in cut] == [w.ids.tolist() for w in whole]
    # A line that does not end is cut where it must be.
    assert [len(piece) for piece in module.pieces("x" * 450)] == [200, 200, 50]


@pytest.mark.parametrize(("length", "message"), [(2, "must be 3 tokens to"), (65, "context")])
def test_windows_that_do_not_suit(model: rt.Model, length: int, message: str) -> None:
    with pytest.raises(SparsecompError, match=rf"window {length}: .*{message}"):
        cut_windows(text_of(WORDS), model, length=length)


def test_too_short(model: rt.Model) -> None:
    with pytest.raises(SparsecompError, match=r"held\.txt: too short for a window of 64 tokens"):
        cut_windows(text_of("w5 w6 w7"), model, length=64)
    with pytest.raises(SparsecompError, match="tokens 63: must be a window of 64"):
        cut_windows(text_of(WORDS), model, length=64, tokens=63)


def test_a_directory_is_its_txt_files_by_name(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / name).write_text(f"text of {name}")
    found = read_texts([tmp_path, tmp_path / "c.md"])
    assert [text.path.name for text in found] == ["a.txt", "b.txt", "c.md"]
    assert found[0].content == "text of a.txt"
    assert found[0].sha256 == hashlib.sha256(b"text of a.txt").hexdigest()


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffhello".encode())
    assert read_texts([tmp_path / "a.txt"])[0].content == "hello"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"good \xff bad", "not text (byte 5 is not UTF-8)"),
        (b"\x7fELF\0\0", "not text (byte 4 is NUL)"),
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_no_text(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "held.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SparsecompError) as error:
        read_texts([path])
    assert str(error.value) == f"{path}: {message}"


def test_a_directory_without_text(tmp_path: Path) -> None:
    with pytest.raises(SparsecompError, match=r"holds no \.txt file"):
        read_texts([tmp_path])
