"""Sessions on a loaded model: logits, positions, rewinding, limits, threads, closing."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from runtime_support import CONTEXT, VOCAB, Toy

import sparsecomp.runtime as rt
from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.artifact import BlockKind, Part

TOKENS = [5, 3, 8, 1, 9, 2]


def prefixes(model: rt.Model, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
    """Logits after each token, every one from a prefill of its own."""
    return np.stack([model.session().prefill(tokens[: n + 1]) for n in range(len(tokens))])


def test_prefill_and_decode_agree(toy: Toy) -> None:
    with rt.load(toy.write(script=range(10, 40))) as model:
        rows = prefixes(model, TOKENS)
        assert rows.shape == (len(TOKENS), VOCAB) and rows.dtype == np.float32
        assert rows.argmax(1).tolist() == [10, 11, 12, 13, 14, 15]
        session = model.session()
        stepped = [session.decode(token) for token in TOKENS]
        np.testing.assert_array_equal(stepped, rows)
        assert session.position == len(TOKENS)


def test_long_prefill_comes_in_chunks_with_the_same_logits(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rt.load(toy.write()) as model:
        whole = model.session().prefill(range(20))
        monkeypatch.setattr("sparsecomp.runtime.session._PREFILL_CHUNK", 7)
        session = model.session()
        np.testing.assert_array_equal(session.prefill(range(20)), whole)
        session.rewind(0)
        np.testing.assert_array_equal(session.prefill(range(20)), whole)


def test_rewind(toy: Toy) -> None:
    with rt.load(toy.write()) as model:
        session = model.session()
        session.prefill(TOKENS)
        rows = prefixes(model, TOKENS)
        session.rewind(3)
        assert session.position == 3
        np.testing.assert_array_equal(session.decode(TOKENS[3]), rows[3])
        assert not np.array_equal(session.decode(0), rows[4])
        with pytest.raises(SparsecompError, match=r"position 6: .* rewound to 0..5"):
            session.rewind(6)


def test_rewind_stops_where_a_sliding_window_forgot(toy: Toy) -> None:
    with rt.load(toy.write(rewind_limit=4)) as model:
        session = model.session()
        session.prefill(range(10))
        session.rewind(6)
        # What counts is the furthest position, not the present one.
        with pytest.raises(SparsecompError, match=r"position 5: .* goes back to 6; .* or to 0"):
            session.rewind(5)
        session.rewind(0)
        session.prefill(range(5))
        session.rewind(1)


def test_limits(toy: Toy) -> None:
    with rt.load(toy.write()) as model:
        session = model.session(capacity=4)
        with pytest.raises(SparsecompError, match=r"5 tokens at position 0: .* room for 4"):
            session.prefill(range(5))
        session.prefill(range(4))
        with pytest.raises(SparsecompError, match=r"1 tokens at position 4: .* room for 4"):
            session.decode(0)
        for capacity in (0, CONTEXT + 1):
            with pytest.raises(SparsecompError, match=f"capacity {capacity}: must be 1 to"):
                model.session(capacity)
        with pytest.raises(SparsecompError, match=r"out of memory: a session of 13 .* 52 bytes"):
            model.session(13)


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [
        ([], "no tokens"),
        ([VOCAB], f"token id {VOCAB}: the model has 0..{VOCAB - 1}"),
        ([0, -1], "token id -1"),
        ([2**31], f"token id {2**31}"),
        ([2**80], "list of integers"),
        ([1.0], "list of integers"),
        ([True], "list of integers"),
        ([[1, 2]], "list of integers"),
        ([[1], [1, 2]], "list of integers"),
        ("ab", "list of integers"),
    ],
)
def test_bad_tokens(toy: Toy, tokens: object, problem: str) -> None:
    with rt.load(toy.write()) as model:
        session = model.session()
        with pytest.raises(SparsecompError, match=problem):
            session.prefill(tokens)
        assert session.position == 0


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        (VOCAB, f"token id {VOCAB}: the model has 0..{VOCAB - 1}"),
        (-1, "token id -1"),
        (np.int64(2**40), f"token id {2**40}"),
        (2**80, f"token id {2**80}"),
        (1.0, "list of integers"),
        (True, "list of integers"),
        ([1], "list of integers"),
        ("a", "list of integers"),
        (None, "list of integers"),
    ],
)
def test_a_bad_token(toy: Toy, token: object, problem: str) -> None:
    with rt.load(toy.write()) as model:
        session = model.session()
        with pytest.raises(SparsecompError, match=problem):
            session.decode(token)
        assert session.position == 0


def test_a_token_may_be_any_integer(toy: Toy) -> None:
    with rt.load(toy.write()) as model:
        expected = model.session().decode(VOCAB - 1)
        for kind in (np.int32, np.uint16, np.int64):
            np.testing.assert_array_equal(model.session().decode(kind(VOCAB - 1)), expected)


def test_sessions_are_independent_across_threads(toy: Toy) -> None:
    with rt.load(toy.write()) as model:
        starts = range(8)
        expected = [model.session().prefill([start, *range(30)]) for start in starts]
        found: dict[int, np.ndarray] = {}

        def work(start: int) -> None:
            session = model.session()
            for token in (start, *range(29)):
                session.decode(token)
            found[start] = session.decode(29)

        threads = [threading.Thread(target=work, args=(start,)) for start in starts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for start in starts:
            np.testing.assert_array_equal(found[start], expected[start])


def test_one_session_from_two_threads_loses_no_position(toy: Toy) -> None:
    with rt.load(toy.write()) as model:
        session = model.session()
        threads = [
            threading.Thread(target=lambda: [session.decode(1) for _ in range(30)])
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert session.position == 60


def test_use_after_close(toy: Toy) -> None:
    model = rt.load(toy.write())
    session = model.session()
    closed = model.session()
    closed.close()
    closed.close()
    with pytest.raises(SparsecompError, match=r"session is closed"):
        closed.decode(1)
    session.decode(1)
    stream = model.stream_ids([1])
    next(stream)
    model.close()
    model.close()
    for use in (lambda: session.decode(1), lambda: session.rewind(0), lambda: next(stream)):
        with pytest.raises(SparsecompError, match=r"session is closed"):
            use()
    with pytest.raises(SparsecompError, match=r"model is closed"):
        model.session()
    with pytest.raises(SparsecompError, match=r"artifact is closed"):
        model.artifact.read_text("ir/spz.mlir")


def test_closing_while_other_threads_generate(toy: Toy) -> None:
    model = rt.load(toy.write())
    errors: list[str] = []

    def work() -> None:
        try:
            while True:
                model.generate_ids([1, 2], max_new_tokens=20, temperature=1.0)
        except SparsecompError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    model.generate_ids([1], max_new_tokens=50)
    model.close()
    for thread in threads:
        thread.join(timeout=20)
    assert len(errors) == 4 and all("is closed" in error for error in errors)


def test_forgotten_sessions_are_freed(toy: Toy) -> None:
    with rt.load(toy.write()) as model:
        session = model.session()
        assert len(model._sessions) == 1
        del session
        assert len(model._sessions) == 0


def test_stats(toy: Toy) -> None:
    """Fixed bytes times tokens, and what was counted times what it costs."""
    with rt.load(toy.write()) as model, model.session() as session:
        session.prefill([7, 7, 7])
        assert session.stats() == rt.Stats(0, 3, {Part.MLP: 0, Part.OTHER: 0}, 0, ())
        for token in (0b1111, 0b11, 0):  # 4 + 2 + 0 units chosen, 2 + 1 + 0 read further
            session.decode(token)
        stats = session.stats()
        assert (stats.decoded, stats.prefilled) == (3, 3)
        assert stats.weight_bytes == {Part.MLP: 6 * 10 + 3 * 20, Part.OTHER: 3 * CONTEXT * 4}
        assert stats.kv_bytes == 4 * (4 + 5 + 6)
        assert stats.bytes_per_token == (120 + 3 * CONTEXT * 4 + 60) / 3
        assert stats.blocks == (rt.BlockStats("toy.mlp", BlockKind.MLP, 6 / 24, 3 / 24),)

        session.reset_stats()
        session.decode(0b10110000)
        stats = session.stats()
        assert (stats.decoded, stats.prefilled, stats.kv_bytes) == (1, 0, 4 * 7)
        assert stats.blocks[0].density == 3 / 8


def test_trace(toy: Toy) -> None:
    with rt.load(toy.write()) as model, model.session() as session:
        session.decode(0b11)
        with pytest.raises(SparsecompError, match=r"does not trace"):
            session.chosen()
        session.trace()
        session.decode(0b10110000)
        (chosen,) = session.chosen()
        assert chosen.tolist() == [4, 5, 7]
        session.decode(0b1)
        assert session.chosen()[0].tolist() == [0] and chosen.tolist() == [4, 5, 7]
        session.trace(False)
        session.decode(0b1)
        with pytest.raises(SparsecompError, match=r"does not trace"):
            session.chosen()


def test_profile(toy: Toy) -> None:
    with rt.load(toy.write()) as model, model.session() as session:
        session.profile()
        session.decode(1)
        session.decode(1)
        embed, mlp = session.step_seconds()
        assert embed == rt.StepTime("embed", "toy.embed", pytest.approx(2e-6))
        assert mlp == rt.StepTime("mlp", "toy.mlp", pytest.approx(6e-6))
        taken = session.step_nanoseconds()
        session.decode(1)
        assert taken[0].tolist() == [2000, 6000]  # a copy
        session.profile(False)
        for ask in (session.step_seconds, session.step_nanoseconds):
            with pytest.raises(SparsecompError, match=r"does not profile"):
                ask()


def test_a_manifest_that_does_not_fit_its_program(toy: Toy) -> None:
    """Sizes are checked before the program writes."""
    path = toy.write(counters=5, trace_slots=10)
    with rt.load(path) as model, model.session() as session:
        with pytest.raises(SparsecompError, match=r"has not the counters that its manifest says"):
            session.stats()
        with pytest.raises(SparsecompError, match=r"has not the trace slots"):
            session.trace()
