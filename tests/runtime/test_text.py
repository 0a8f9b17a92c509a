"""Incremental text: the pieces join to the whole, characters stay whole, stop texts stay out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_support import EOS, VOCAB, byte_tokenizer, sentencepiece_tokenizer
from tokenizers import Tokenizer

from sparsecomp.runtime.text import StopMatcher, TextDecoder

BYTES, PIECES = byte_tokenizer(), sentencepiece_tokenizer()
WORDS = st.text(st.sampled_from("heloworld  \n.é日👩‍🚀"), max_size=30)


def decode_all(decoder: TextDecoder, tokens: list[int]) -> list[str]:
    return [*map(decoder.feed, tokens), decoder.flush()]


@pytest.mark.parametrize("tokenizer", [BYTES, PIECES])
@settings(max_examples=150)
@given(prompt=WORDS, answer=WORDS)
def test_pieces_join_to_the_whole(tokenizer: Tokenizer, prompt: str, answer: str) -> None:
    before = tokenizer.encode(prompt).ids
    tokens = tokenizer.encode(answer).ids
    pieces = decode_all(TextDecoder(tokenizer, before), tokens)
    assert tokenizer.decode(before) + "".join(pieces) == tokenizer.decode(before + tokens)
    assert not any("\ufffd" in piece for piece in pieces)
    # A character never waits longer than it must: its last token brings it.
    assert pieces[-1] == ""


@settings(max_examples=150)
@given(st.lists(st.integers(0, BYTES.get_vocab_size() - 1), max_size=30))
def test_any_bytes_join_to_the_whole(tokens: list[int]) -> None:
    pieces = decode_all(TextDecoder(BYTES), tokens)
    assert "".join(pieces) == BYTES.decode(tokens)


def test_emoji_comes_when_complete() -> None:
    tokens = BYTES.encode("a👩b").ids
    assert len(tokens) == 6
    decoder = TextDecoder(BYTES)
    assert [decoder.feed(token) for token in tokens] == ["a", "", "", "", "👩", "b"]


def test_unfinished_character_is_flushed_once() -> None:
    decoder = TextDecoder(BYTES)
    first, *_ = BYTES.encode("👩").ids
    assert (decoder.feed(first), decoder.flush(), decoder.flush()) == ("", "\ufffd", "")


def test_prompt_may_end_within_a_character() -> None:
    tokens = BYTES.encode("x👩y").ids
    decoder = TextDecoder(BYTES, tokens[:3])
    assert [decoder.feed(token) for token in tokens[3:]] == ["", "👩", "y"]


def test_replacement_character_of_the_prompt_is_not_repeated() -> None:
    prompt = BYTES.encode("x\ufffd").ids
    pieces = decode_all(TextDecoder(BYTES, prompt), BYTES.encode("y").ids)
    assert "".join(pieces) == "y"


def test_leading_space_after_a_prompt_and_at_the_very_start() -> None:
    tokens = PIECES.encode("hello world").ids
    assert "".join(decode_all(TextDecoder(PIECES), tokens)) == "hello world"
    after = TextDecoder(PIECES, PIECES.encode("say").ids)
    assert "".join(decode_all(after, tokens)) == " hello world"


def test_special_tokens_give_no_text_and_take_no_space() -> None:
    eos = PIECES.token_to_id(EOS)
    tokens = PIECES.encode("ab").ids
    assert "".join(decode_all(TextDecoder(PIECES), [*tokens, eos, eos, *tokens])) == "ab ab"


def stopped_by_definition(text: str, stop: list[str]) -> str:
    """Character by character: the first stop text to be complete ends the text before it."""
    for end in range(len(text) + 1):
        matches = [s for s in stop if text[:end].endswith(s)]
        if matches:
            return text[: end - max(map(len, matches))]
    return text


SHORT = st.text(st.sampled_from("abc"), min_size=1, max_size=4)


@settings(max_examples=300)
@given(
    st.lists(st.text(st.sampled_from("abc"), max_size=5), max_size=8), st.lists(SHORT, max_size=3)
)
def test_stop_texts_however_the_text_is_cut(pieces: list[str], stop: list[str]) -> None:
    matcher = StopMatcher(stop)
    expected = stopped_by_definition("".join(pieces), stop)
    out = ""
    for piece in pieces:
        out += matcher.feed(piece)
        assert expected.startswith(out)  # nothing is let through that must be taken back
    assert out + matcher.flush() == expected
    assert matcher.stopped == (expected != "".join(pieces))


def test_text_that_cannot_become_a_stop_text_is_not_held() -> None:
    matcher = StopMatcher(["\n\nUser:"])
    assert matcher.feed("one\n") == "one"
    assert matcher.feed("two") == "\ntwo"
    assert matcher.feed("\n\nUse") == ""
    assert matcher.feed("r:x") == ""
    assert matcher.stopped and matcher.flush() == ""


def test_vocabularies_fit_the_toy() -> None:
    assert max(BYTES.get_vocab_size(), PIECES.get_vocab_size()) <= VOCAB
