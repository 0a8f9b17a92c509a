"""A budget is kept on text that nothing was fitted to; what was decided can be repeated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import sparsecomp.runtime as rt
from sparsecomp import evaluate
from sparsecomp.calibrate.text import DEFAULT_TEXT
from sparsecomp.compile import compile_model
from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate import ArtifactLogits
from sparsecomp.options import CompileOptions, SparsityOptions
from sparsecomp.recipe import parse_recipe
from sparsecomp.runtime.manifest import BlockKind, Part
from sparsecomp.runtime.record import Record, parse_record
from sparsecomp.runtime.sampling import Sampler, SamplingParams, candidates
from sparsecomp.sparsify import search
from sparsecomp.sparsity import Cutoff, Exact

DATA = Path(__file__).parents[1] / "data"
MODEL = DATA / "tiny-relu"
TEXTS = tuple(
    DEFAULT_TEXT / f"{kind}.txt"
    for kind in ("encyclopedia", "essays", "everyday", "fiction", "news", "science", "technical")
)
"""A quarter of the default text is enough for a model this small."""
HELD_OUT = DATA / "held-out.txt"
BUDGET = 0.02
SKETCH = "{kind: sketch, count: 256, density: 0.125, offset: 0.1}"
DRAWS = 20_000


@dataclass(frozen=True)
class Compiled:
    artifact: Path
    recipe: str
    record: Record
    notes: tuple[str, ...]


def compiled(output: Path, **options: object) -> Compiled:
    report = compile_model(
        CompileOptions(
            model_dir=MODEL,
            output=output,
            workers=1,
            sparsity=SparsityOptions(**{"calibration": TEXTS} | options),  # type: ignore[arg-type]
        )
    )
    with rt.load(output) as model:
        record = parse_record(model.artifact.read_bytes("sparsity.json"))
        recipe = model.artifact.read_text("recipe.yaml")
    return Compiled(output, recipe, record, report.notes)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sparsity")


@pytest.fixture(scope="module")
def dense(room: Path) -> Path:
    compile_model(CompileOptions(model_dir=MODEL, output=room / "dense.spz", workers=1))
    return room / "dense.spz"


@pytest.fixture(scope="module")
def sparse(room: Path) -> Compiled:
    with pytest.MonkeyPatch.context() as patch:
        # Which of two tiny programs is faster is not what is tested here.
        patch.setattr(search._Search, "_slower", lambda *_: None)
        return compiled(
            room / "sparse.spz", max_ppl_increase=BUDGET, calibration_dir=room / "calibration"
        )


def test_the_budget_is_kept_on_text_never_seen(sparse: Compiled, dense: Path) -> None:
    with rt.load(sparse.artifact) as model, rt.load(dense) as original:
        windows = evaluate.cut_windows(
            evaluate.read_texts([HELD_OUT]), model, length=256, tokens=8192
        )
        report = evaluate.quality(ArtifactLogits(model), ArtifactLogits(original), windows)
    assert report.ratio.value <= 1 + BUDGET
    assert report.same_top.value > 0.85


def test_the_weights_read_are_counted(sparse: Compiled) -> None:
    with rt.load(sparse.artifact) as model:
        manifest = model.manifest
        ids = model.encode(HELD_OUT.read_text(encoding="utf-8"))[:200]
        with model.session() as session:
            session.prefill(ids[:1])
            for token in ids[1:]:
                session.decode(token)
            stats = session.stats()
    read = {part: size / stats.decoded for part, size in stats.weight_bytes.items()}
    dense_mlp = manifest.dense_bytes_per_token[Part.MLP]
    blocks = [block for block in manifest.blocks if block.kind is not BlockKind.HEAD]
    predictors = sum(block.predictor_bytes for block in blocks)
    assert dense_mlp >= 2.5 * (read[Part.MLP] + predictors)
    expected = manifest.bytes_per_token[Part.MLP]
    assert read[Part.MLP] == pytest.approx(expected, rel=0.25)
    for block, counted in zip(manifest.blocks, stats.blocks, strict=True):
        assert block.module == counted.module
        if block.kind is BlockKind.MLP:
            assert counted.density == pytest.approx(block.density, abs=0.05)


def test_the_record_says_what_was_done(sparse: Compiled) -> None:
    record = sparse.record
    assert record.budget == BUDGET and record.dense_because is None and not sparse.notes
    assert record.measured is not None and record.measured.high <= 1 + BUDGET
    assert any(a.kept and a.ratio == record.measured for a in record.attempts)
    assert [text.name for text in record.texts] == [text.name for text in TEXTS]
    assert all(count > 0 for count in record.tokens.values())
    assert [b.module for b in record.blocks if b.kind is BlockKind.MLP] == [
        f"model.decoder.layers.{i}" for i in range(4)
    ]
    chosen = [block for block in record.blocks if block.choice is not None]
    assert chosen and all(b.choice in [o.choice for o in b.options] for b in chosen)
    assert all(block.sparse_bytes < block.dense_bytes for block in chosen)
    reads = [point.bytes_per_token for point in record.curve]
    assert reads == sorted(reads, reverse=True) and len(reads) > 3


def test_a_recipe_repeats_the_compile(sparse: Compiled, room: Path) -> None:
    file = room / "recipe.yaml"
    file.write_text(sparse.recipe)
    again = compiled(room / "again.spz", recipe=file)
    assert parse_recipe(again.recipe) == parse_recipe(sparse.recipe)
    ids = list(range(20, 60))
    with rt.load(sparse.artifact) as first, rt.load(again.artifact) as second:
        rows = []
        for model in (first, second):
            with model.session() as session:
                session.prefill(ids[:1])
                rows.append(np.stack([session.decode(token) for token in ids[1:]]))
    assert (rows[0] == rows[1]).all()


def test_a_fixed_density(room: Path) -> None:
    fixed = compiled(room / "fixed.spz", density=0.2, calibration_dir=room / "calibration")
    recipe = parse_recipe(fixed.recipe)
    others = ("attn", "lm_head")
    mlps = [c for name, c in recipe.blocks.items() if not any(o in name for o in others)]
    assert len(mlps) == 4
    assert all(c is not None and c.density == pytest.approx(0.2, abs=0.02) for c in mlps)
    assert sum(c is None for c in recipe.blocks.values()) == len(recipe.blocks) - 4


def test_density_1_is_the_dense_program(room: Path, dense: Path) -> None:
    whole = compiled(room / "whole.spz", density=1.0, calibration_dir=room / "calibration")
    with rt.load(whole.artifact) as model, rt.load(dense) as original:
        assert not model.manifest.blocks
        assert model.artifact.read_bytes("ir/exec.mlir") == original.artifact.read_bytes(
            "ir/exec.mlir"
        )


def test_a_budget_that_nothing_keeps_gives_the_dense_program(
    room: Path, dense: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = search._Search._attempt
    # Whatever is tried is found to miss the budget.
    monkeypatch.setattr(
        search._Search, "_attempt", lambda *given: replace(attempt(*given), used=2.0)
    )
    monkeypatch.setattr(search, "ATTEMPTS", 1)
    missed = compiled(
        room / "missed.spz", max_ppl_increase=0.001, calibration_dir=room / "calibration"
    )
    (note,) = missed.notes
    assert note.startswith("the program is dense: nothing that was tried keeps perplexity within")
    assert missed.record.dense_because is not None and missed.record.measured is None
    with rt.load(missed.artifact) as model:
        assert not model.manifest.blocks


def test_a_program_that_is_slower_gives_way_to_the_dense_one(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "ATTEMPTS", 1)
    monkeypatch.setattr(
        search, "_decode_seconds", lambda model, ids: 2.0 if model.manifest.blocks else 1.0
    )
    slow = compiled(room / "slow.spz", max_ppl_increase=0.5, calibration_dir=room / "calibration")
    (note,) = slow.notes
    assert "takes 2.00 times as long as the dense one" in note
    assert all(choice is None for choice in parse_recipe(slow.recipe).blocks.values())


MISTAKES = [
    ("", "is empty"),
    ("a few words", "tokens of text are too few to calibrate with"),
    (b"\xff\xfe\x00", "not text"),
]


@pytest.mark.parametrize(("content", "problem"), MISTAKES)
def test_text_that_cannot_be_used(content: str | bytes, problem: str, room: Path) -> None:
    file = room / "bad.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SparsecompError, match=problem) as raised:
        compiled(room / "never.spz", calibration=(file,))
    assert "\n" not in str(raised.value)
    assert not list(room.glob("*never*"))


def test_a_model_without_a_tokenizer(room: Path) -> None:
    model_dir = room / "silent"
    model_dir.mkdir()
    for file in MODEL.iterdir():
        if file.name != "tokenizer.json":
            (model_dir / file.name).symlink_to(file)
    options = CompileOptions(
        model_dir=model_dir, output=room / "never.spz", sparsity=SparsityOptions()
    )
    with pytest.raises(SparsecompError, match=r"silent/tokenizer.json is missing"):
        compile_model(options)


def test_a_sketched_head_samples_as_the_whole_one_does(room: Path) -> None:
    """Pearson's chi-square of 20,000 draws against the probabilities of full logits."""
    file = room / "sketch.yaml"
    file.write_text(f"recipe: 1\nblocks:\n  lm_head: {SKETCH}\n")
    sketched = compiled(room / "sketched.spz", recipe=file, calibration_dir=room / "calibration")
    params = SamplingParams(temperature=0.8, top_k=40, seed=1)
    with rt.load(sketched.artifact) as model, model.session() as session:
        assert model.manifest.exact_logits == 256
        ids = model.encode(HELD_OUT.read_text(encoding="utf-8"))[:120]
        session.prefill(ids[:19])
        for position, token in enumerate(ids[19:], start=19):
            logits = session.decode(token)
            if position % 25:
                continue
            session.rewind(position)
            full = session.decode(token, full_logits=True)
            assert (logits != full).sum() > 1000
            tokens, weights = candidates(full, params)
            expected = DRAWS * weights / weights.sum()
            sampler = Sampler(params)
            drawn = np.bincount([sampler(logits) for _ in range(DRAWS)], minlength=len(full))
            assert drawn[tokens].sum() == DRAWS
            common = expected >= 5
            counts = [*drawn[tokens][common], drawn[tokens][~common].sum()]
            means = [*expected[common], max(expected[~common].sum(), 1e-9)]
            statistic = sum((n - m) ** 2 / m for n, m in zip(counts, means, strict=True))
            freedom = len(counts) - 1
            # Beyond this quantile lies a thousandth (Wilson and Hilferty's approximation).
            spread = 2 / (9 * freedom)
            assert statistic < freedom * (1 - spread + 3.09 * spread**0.5) ** 3


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (f"model.decoder.layers.0: {SKETCH}", "a sketch is of the head"),
        ("lm_head: {kind: low_rank, rank: 8, density: 1, active: 1}", "sketch would work"),
        ("lm_head: {kind: cutoff, of: neuron, threshold: 1, density: 1}", "sketch would work"),
        (
            "model.decoder.layers.0.self_attn: {kind: low_rank, rank: 999, density: 1, active: 1}",
            "self_attn: rank is 999; it can be",
        ),
        (
            "model.decoder.layers.0: {kind: nested, threshold: 1, floor: 0, density: 0.5, "
            "coarse: 0.5, rank: 9999}",
            "layers.0: rank is 9999; it can be",
        ),
        (
            "model.decoder.layers.1: {kind: approximate, rank: 9999, threshold: 1, density: 1, "
            "active: 1}",
            "layers.1: rank is 9999; it can be",
        ),
        (
            "lm_head: {kind: sketch, count: 999999, density: 1, offset: 0}",
            "lm_head: count is 999999; the vocabulary has",
        ),
        (
            "lm_head: {kind: cascade, count: 2, density: 1, offset: 0, first_count: 999999, "
            "first_density: 1, first_offset: 0}",
            "lm_head: first_count is 999999; the vocabulary has",
        ),
        ("model.decoder.layers.9: {kind: dense}", "no MLP or attention of this name"),
        (
            "model.decoder.layers.0: {kind: cutoff, of: gate, threshold: 1, density: 0.5}",
            "has no gate to cut off by",
        ),
        (
            "model.decoder.layers.0.self_attn: {kind: cutoff, of: neuron, threshold: 1, "
            "density: 0.5}",
            "cutoff skips neurons; attention needs low_rank",
        ),
    ],
)
def test_a_recipe_that_does_not_fit(block: str, problem: str, room: Path) -> None:
    file = room / "wrong.yaml"
    file.write_text(f"recipe: 1\nblocks:\n  {block}\n")
    with pytest.raises(SparsecompError, match=problem):
        compiled(room / "never.spz", recipe=file, calibration_dir=room / "calibration")
    assert not list(room.glob("*never*"))


def test_a_recipe_is_checked_before_calibration(room: Path) -> None:
    file, kept = room / "early.yaml", room / "not-yet"
    block = "model.decoder.layers.1.self_attn: {kind: narrow, bits: 6, output_bits: 4}"
    file.write_text(f"recipe: 1\nblocks:\n  {block}\n")
    with pytest.raises(SparsecompError, match=r"self_attn: narrow needs .* --dtype int8"):
        compiled(room / "never.spz", recipe=file, calibration_dir=kept)
    assert not kept.exists()


def test_choices_compare_by_value() -> None:
    """What the search and the recipe rely on."""
    assert Cutoff(of=Exact.GATE, threshold=1.0, density=0.5) == Cutoff(
        of=Exact("gate"), threshold=1.0, density=0.5
    )
