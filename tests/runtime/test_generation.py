"""Generation: text and ids, ends, stop texts, prompts."""

from __future__ import annotations

import pytest
from runtime_support import BOS, CONTEXT, EOS_ID, Toy, byte_tokenizer, sentencepiece_tokenizer

import sparsecomp.runtime as rt
from sparsecomp.errors import SparsecompError

PROMPT = "hello"


def answering(toy: Toy, text: str, *, end: bool = True, **changes: object) -> rt.Model:
    """A model that answers PROMPT with `text`."""
    tokenizer = byte_tokenizer()
    skipped = len(tokenizer.encode(PROMPT).ids) - 1
    answer = tokenizer.encode(text).ids + [EOS_ID] * end
    path = toy.write(script=[0] * skipped + answer, tokenizer=tokenizer, **changes)
    return rt.load(path)


def test_text_until_eos(toy: Toy) -> None:
    text = " wörld 👩‍🚀 «ok» 日本"
    with answering(toy, text) as model:
        stream = model.stream(PROMPT)
        pieces = list(stream)
        assert "".join(pieces) == text
        assert "ö" in pieces and not any("\ufffd" in piece for piece in pieces)
        assert stream.finish_reason is rt.FinishReason.EOS
        assert stream.tokens.prompt_tokens == 1
        assert (
            stream.tokens.new_tokens
            == stream.tokens.decode_steps
            == len(byte_tokenizer().encode(text).ids)
        )
        assert model.generate(PROMPT) == [text]
        assert model.generate([PROMPT, PROMPT]) == [text, text]
        assert model.generate(byte_tokenizer().encode(PROMPT).ids) == [text]


def test_length_cuts_a_character(toy: Toy) -> None:
    with answering(toy, "ab👩") as model:
        stream = model.stream(PROMPT, max_new_tokens=4)
        assert list(stream) == ["a", "b", "\ufffd"]
        assert stream.finish_reason is rt.FinishReason.LENGTH


def test_stop_text_across_pieces(toy: Toy) -> None:
    with answering(toy, "one\n\ntwo") as model:
        stream = model.stream(PROMPT, stop=["\n\nt", "zzz"])
        assert "".join(stream) == "one"
        assert stream.finish_reason is rt.FinishReason.STOP
        assert "".join(model.stream(PROMPT, stop=["\n\nx"])) == "one\n\ntwo"
        with pytest.raises(SparsecompError, match=r"stop: needs text"):
            model.stream_ids([1], stop=["x"])


def test_context_ends_generation(toy: Toy) -> None:
    with rt.load(toy.write(script=[1] * CONTEXT)) as model:
        stream = model.stream_ids([1] * 10, max_new_tokens=1000)
        # The last position's logits still give a token, which there is no room to process.
        assert list(stream) == [1] * (CONTEXT - 10 + 1)
        assert stream.finish_reason is rt.FinishReason.CONTEXT
        with pytest.raises(SparsecompError, match=f"prompt has {CONTEXT + 1} tokens.* {CONTEXT}"):
            model.stream_ids([1] * (CONTEXT + 1))


def test_ignore_eos(toy: Toy) -> None:
    with answering(toy, "hi") as model:
        ids = model.generate_ids(PROMPT, ignore_eos=True, max_new_tokens=4)
        assert len(ids) == 4 and ids[2] == EOS_ID
        text = model.generate(PROMPT, ignore_eos=True, max_new_tokens=3)
        assert text == ["hi"]


def test_seed_decides_whatever_is_beside_it(toy: Toy) -> None:
    params = rt.SamplingParams(temperature=3.0, seed=7, max_new_tokens=20)
    with rt.load(toy.write(tokenizer=byte_tokenizer())) as model:
        alone = model.generate("he", params)
        assert model.generate(["or", "he"], params)[1:] == alone
        assert model.generate("he", params, seed=8) != alone
        assert "".join(model.stream("he", params)) == alone[0]


def test_sentencepiece_space(toy: Toy) -> None:
    tokenizer = sentencepiece_tokenizer()
    answer = tokenizer.encode("cd ef").ids
    with rt.load(
        toy.write(
            script=[0, *answer, *[7] * 9],
            tokenizer=tokenizer,
        )
    ) as model:
        ids = tokenizer.encode("ab").ids
        assert len(ids) == 2
        assert model.generate("ab", max_new_tokens=len(answer)) == [" cd ef"]


def test_without_tokenizer(toy: Toy) -> None:
    with rt.load(toy.write(script=[4, 5, 6])) as model:
        assert model.generate_ids([1], max_new_tokens=3) == [4, 5, 6]
        for use in (lambda: model.stream("x"), lambda: model.stream([1])):
            with pytest.raises(SparsecompError, match=r"toy.spz: has no tokenizer; .* token ids"):
                use()


def test_empty_prompt(toy: Toy) -> None:
    tokenizer = byte_tokenizer()
    with rt.load(toy.write(tokenizer=tokenizer)) as model:
        with pytest.raises(SparsecompError, match=r"no tokens"):
            model.stream("")
        assert model.generate([]) == []
    bos = tokenizer.token_to_id(BOS)
    with rt.load(toy.write(tokenizer=tokenizer, bos_token_id=bos)) as model:
        assert model.stream("").tokens.prompt_tokens == 1


def test_closing_a_stream_frees_its_session(toy: Toy) -> None:
    with answering(toy, "some text") as model:
        stream = model.stream(PROMPT)
        next(stream)
        assert len(model._sessions) == 1
        stream.close()
        assert len(model._sessions) == 0
        assert list(stream) == []


def test_broken_tokenizer_is_named(toy: Toy) -> None:
    class Broken:
        def to_str(self) -> str:
            return "{}"

    with (
        rt.load(toy.write(tokenizer=Broken())) as model,  # type: ignore[arg-type]
        pytest.raises(SparsecompError, match=r"'tokenizer/tokenizer.json' cannot be read"),
    ):
        model.encode("x")


def test_text_and_ids(toy: Toy) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=50)
    with rt.load(toy.write(tokenizer=tokenizer, chat_template="{{ messages }}")) as model:
        assert model.chat_template == "{{ messages }}"
        ids = model.encode("hello world")  # neither cut nor padded
        assert ids == byte_tokenizer().encode("hello world").ids
        assert model.decode(ids) == model.decode([*ids, EOS_ID]) == "hello world"
        assert model.decode([]) == ""
    with rt.load(toy.write()) as model:
        assert model.chat_template is None
