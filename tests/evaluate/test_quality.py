"""Figures computed by hand, and those of an artifact that is exact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from evaluate_support import VOCAB, Fake, windows

import sparsecomp.runtime as rt
from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate import ArtifactLogits, QualityReport, Window, quality
from sparsecomp.evaluate.hugging_face import HuggingFaceLogits
from sparsecomp.evaluate.logits import Logits
from sparsecomp.evaluate.quality import BLOCK, _blocks

P = [0.5, 0.25, 0.125, 0.125]
Q = [0.125, 0.5, 0.25, 0.125]


def log_of(probabilities: list[float], shift: float = 0.0) -> list[float]:
    return [float(np.log(p)) + shift for p in probabilities]


def test_figures_by_hand() -> None:
    # Shifted logits are the same distribution, and 1e4 overflows a naive exp.
    reference = Fake(lambda token: log_of(P, shift=1e4))
    artifact = Fake(lambda token: log_of(Q))
    inputs = windows(count=6, length=50)
    report = quality(artifact, reference, inputs)
    targets = np.concatenate([window.ids[2:] for window in inputs])
    cost, reference_cost = -np.log(np.array(Q))[targets], -np.log(np.array(P))[targets]
    assert report.perplexity.value == pytest.approx(np.exp(cost.mean()))
    assert report.reference_perplexity.value == pytest.approx(
        np.exp(reference_cost.mean()), rel=1e-3
    )
    divergence = 0.5 * np.log(4) + 0.25 * np.log(0.5) + 0.125 * np.log(0.5)
    assert report.kl_mean.value == pytest.approx(divergence, rel=1e-3)
    assert report.kl_p99.value == pytest.approx(divergence, rel=1e-3)
    assert report.same_top.value == 0
    assert report.ratio.value == pytest.approx(
        report.perplexity.value / report.reference_perplexity.value
    )
    assert (report.tokens, report.windows) == (6 * 48, 6)


def test_a_share_of_corrupted_tokens_shows_in_each_figure() -> None:
    """After token 3 the artifact answers Q instead of P."""
    reference = Fake(lambda token: log_of(P))
    artifact = Fake(lambda token: log_of(Q if token == 3 else P))
    inputs = windows(count=10, length=100)
    report = quality(artifact, reference, inputs)
    before = np.concatenate([window.ids[1:-1] for window in inputs])
    targets = np.concatenate([window.ids[2:] for window in inputs])
    wrong = before == 3
    divergence = 0.5 * np.log(4) + 0.25 * np.log(0.5) + 0.125 * np.log(0.5)
    assert report.same_top.value == pytest.approx(1 - wrong.mean())
    assert report.kl_mean.value == pytest.approx(divergence * wrong.mean(), rel=1e-6)
    assert report.kl_p99.value == pytest.approx(divergence, rel=1e-6)
    change = np.where(wrong, np.log(np.array(P) / np.array(Q))[targets], 0).mean()
    assert report.ratio.value == pytest.approx(np.exp(change), rel=1e-6)
    for figure in (report.ratio, report.kl_mean, report.same_top, report.perplexity):
        assert figure.low < figure.value < figure.high


def test_an_exact_artifact(model: rt.Model, model_dir: Path) -> None:
    inputs = windows(count=3, length=40, vocab=VOCAB)
    report = quality(ArtifactLogits(model), HuggingFaceLogits(model_dir), inputs)
    _assert_same(report)
    assert report.perplexity.value > 2
    assert report.tokens == 3 * 38


def test_an_artifact_against_itself_and_another(model: rt.Model, other_model: rt.Model) -> None:
    inputs = windows(count=2, length=64, vocab=VOCAB)
    _assert_same(quality(ArtifactLogits(model), ArtifactLogits(model), inputs))
    report = quality(ArtifactLogits(other_model), ArtifactLogits(model), inputs)
    assert report.kl_mean.low > 0.1
    assert report.same_top.high < 0.5
    assert report.ratio.value != pytest.approx(1.0, abs=1e-3)


def _assert_same(report: QualityReport) -> None:
    for ratio in (report.ratio.low, report.ratio.value, report.ratio.high):
        assert ratio == pytest.approx(1.0, abs=1e-5)
    assert report.kl_mean.high < 1e-8 and report.kl_p99.high < 1e-8
    assert (report.same_top.low, report.same_top.value) == (1.0, 1.0)


def test_each_token_but_the_first_is_decoded(model: rt.Model) -> None:
    """Not prefilled, which a sparse program does densely."""
    calls: list[tuple[str, object]] = []

    class Recorder:
        def __getattr__(self, name: str) -> object:
            return getattr(model, name)

        def session(self, capacity: int) -> object:
            session = model.session(capacity)

            class Recorded:
                def __enter__(self) -> Recorded:
                    return self

                def __exit__(self, *error: object) -> None:
                    session.close()

                def prefill(self, ids: list[int]) -> Logits:
                    calls.append(("prefill", ids))
                    return session.prefill(ids)

                def decode(self, token: int, *, full_logits: bool) -> Logits:
                    calls.append(("decode", token))
                    return session.decode(token, full_logits=full_logits)

            return Recorded()

    window = Window(np.array([5, 6, 7, 8, 9], np.int32), 3)
    rows = list(ArtifactLogits(Recorder()).logits(window))  # type: ignore[arg-type]
    assert calls == [("prefill", [5]), ("decode", 6), ("decode", 7), ("decode", 8)]
    with model.session() as session:
        expected = [session.prefill([5, 6, 7]), session.prefill([8])]
    np.testing.assert_allclose(rows, expected, atol=1e-4)


def test_blocks_do_not_span_windows() -> None:
    blocks = _blocks([BLOCK + 1, 2, BLOCK])
    assert blocks.tolist() == [0] * BLOCK + [1, 2, 2] + [3] * BLOCK


def test_progress_is_told_window_by_window() -> None:
    told = []

    class Watch:
        def stage(self, name: str, detail: str = "") -> None: ...
        def ir(self, text: str, pass_name: str, when: object) -> None: ...
        def progress(self, done: int, total: int) -> None:
            told.append((done, total))

    fake = Fake(lambda token: log_of(P))
    quality(fake, fake, windows(count=3, length=5), Watch())
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_too_little_text() -> None:
    fake = Fake(lambda token: log_of(P))
    for inputs in ([], windows(count=1, length=BLOCK)):
        with pytest.raises(SparsecompError, match="give more text"):
            quality(fake, fake, inputs)


def test_another_vocabulary() -> None:
    three, four = Fake(lambda _: [1, 2, 3], "a.spz"), Fake(lambda _: [1, 2, 3, 4], "dir")
    with pytest.raises(SparsecompError, match=r"a\.spz has 3 logits for a token and dir has 4"):
        quality(three, four, windows(count=2, length=5))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers(bad: float) -> None:
    good = Fake(lambda _: [1, 2, 3, 4])
    broken = Fake(lambda _: [1, 2, bad, 4], "broken.spz")
    for pair in ((good, broken), (broken, good)):
        with pytest.raises(SparsecompError, match=r"broken\.spz: gives logits that are not finite"):
            quality(*pair, windows(count=2, length=5))


def test_a_context_too_small(model: rt.Model) -> None:
    long = windows(count=2, length=65, vocab=VOCAB)
    with pytest.raises(SparsecompError, match=r"its context is 64, less than the 65 tokens"):
        quality(ArtifactLogits(model), ArtifactLogits(model), long)


def test_a_reference_without_all_its_tensors(model_dir: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(model_dir, tmp_path / "copy")
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SparsecompError, match=r"has no tensor model\.layers\.1\.mlp\.up_proj"):
        HuggingFaceLogits(copy)


def rows_of(source: Iterator[Logits]) -> int:
    return sum(1 for _ in source)


def test_only_the_scored_tokens_get_rows(model: rt.Model, model_dir: Path) -> None:
    window = Window(np.arange(3, 23, dtype=np.int32), 15)
    for source in (ArtifactLogits(model), HuggingFaceLogits(model_dir)):
        assert rows_of(source.logits(window)) == 5
