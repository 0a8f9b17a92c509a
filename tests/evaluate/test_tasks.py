"""Items with one right continuation: files, tokens, figures."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from evaluate_support import Fake

import sparsecomp.runtime as rt
from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate import ArtifactLogits, Item, Window, item_windows, read_tasks, tasks
from sparsecomp.evaluate.hugging_face import HuggingFaceLogits
from sparsecomp.evaluate.tasks import ItemWindows

ITEMS = [Item("w5 w6", " w7"), Item("w8 w9 w10 ", "w11 w12")]
LINES = [
    json.dumps({"context": "w5 w6", "continuation": " w7"}),
    "",
    json.dumps({"id": 3, "request": {"context": "w8 w9 w10 ", "continuation": "w11 w12"}}),
]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_files(tmp_path: Path, compress: type[bytes]) -> None:
    data = compress("\n".join(LINES).encode())
    path = tmp_path / "items"
    path.write_bytes(data)
    found = read_tasks(path)
    assert found.items == tuple(ITEMS)
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert read_tasks(path, limit=1).items == tuple(ITEMS[:1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{}", "items, line 1: must have two texts"),
        (LINES[0].encode() + b"\n[1]", "items, line 2: must have two texts"),
        (b'{"context": "a", "continuation": ""}', "line 1: must have two texts"),
        (b'{"context": "a", "continuation": 3}', "line 1: must have two texts"),
        (b'{"request": "a"}', "line 1: must have two texts"),
        (b"{", "items, line 1: is not JSON"),
        (b"\xff", "items: not text"),
        (b"\n", "items: holds no items"),
        (gzip.compress(LINES[0].encode(), mtime=0)[:-9], "items: is not a whole gzip file"),
        (gzip.compress(b"x" * 99, mtime=0)[:12] + b"broken" * 9, "items: is not a whole gzip file"),
    ],
)
def test_bad_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "items"
    path.write_bytes(data)
    with pytest.raises(SparsecompError) as error:
        read_tasks(path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_and_a_bad_limit(tmp_path: Path) -> None:
    with pytest.raises(SparsecompError, match="cannot be read: No such file"):
        read_tasks(tmp_path / "none")
    with pytest.raises(SparsecompError, match="limit 0: must be 1"):
        read_tasks(tmp_path / "none", limit=0)


def test_tokens(model: rt.Model, other_model: rt.Model) -> None:
    first, second = item_windows(ITEMS, model).windows
    assert (first.ids.tolist(), first.first) == ([5, 6, 7], 2)
    assert (second.ids.tolist(), second.first) == ([8, 9, 10, 11, 12], 3)
    first, _ = item_windows(ITEMS, other_model).windows
    assert (first.ids.tolist(), first.first) == ([1, 5, 6, 7], 3)


def test_a_long_context_loses_its_beginning(other_model: rt.Model) -> None:
    words = [f"w{i % 50 + 3}" for i in range(100)]
    long = Item(" ".join(words[:-2]), " " + " ".join(words[-2:]))
    found = item_windows([ITEMS[0], long], other_model)
    assert found.shortened == 1
    window = found.windows[1]
    expected = [1, *(int(word[1:]) for word in words[-63:])]
    assert (window.ids.tolist(), window.first) == (expected, 62)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (Item("w5", " w6"), "item 2: its context has 1 tokens; give 2 or more"),
        (Item("w5 w6", " "), "item 2: its continuation adds no token"),
        (Item("w5 w6", " w7" * 63), "item 2: its continuation is 63 tokens, too long"),
    ],
)
def test_bad_items(model: rt.Model, item: Item, message: str) -> None:
    with pytest.raises(SparsecompError, match=message):
        item_windows([ITEMS[0], item], model)


def test_figures_by_hand() -> None:
    """After token t the artifact says t + 1, the reference says 0, both with probability 0.7."""

    def after(top: int) -> list[float]:
        return [float(np.log(0.7 if token == top else 0.1)) for token in range(4)]

    artifact, reference = Fake(lambda token: after((token + 1) % 4)), Fake(lambda token: after(0))
    items = [
        Window(np.array([3, 0, 1], np.int32), 2),  # right, wrong
        Window(np.array([1, 2, 3, 0], np.int32), 2),  # both right; the second half right
        Window(np.array([1, 1, 2, 2], np.int32), 2),  # right, then wrong; wrong
        Window(np.array([1, 1, 0], np.int32), 2),  # wrong; right
    ]
    report = tasks(artifact, reference, ItemWindows(tuple(items), 3))
    assert report.accuracy.value == 0.5
    assert report.reference_accuracy.value == 0.25
    assert report.accuracy_change.value == 0.25
    assert report.accuracy_change.low < 0.25 < report.accuracy_change.high
    # Of 6 tokens the artifact gives 4 a probability of 0.7, the reference 2.
    assert report.perplexity.value == pytest.approx((0.7**4 * 0.1**2) ** (-1 / 6))
    assert report.reference_perplexity.value == pytest.approx((0.7**2 * 0.1**4) ** (-1 / 6))
    assert report.ratio.value == pytest.approx(7 ** (-1 / 3))
    assert (report.items, report.tokens, report.shortened) == (4, 6, 3)


def test_an_exact_artifact(model: rt.Model, model_dir: Path) -> None:
    random = np.random.default_rng(0)
    items = [
        Item(" ".join(f"w{i}" for i in random.integers(3, 64, 9)), f" w{n}") for n in range(3, 40)
    ]
    report = tasks(ArtifactLogits(model), HuggingFaceLogits(model_dir), item_windows(items, model))
    assert report.ratio.value == pytest.approx(1.0, abs=1e-5)
    assert (report.accuracy_change.low, report.accuracy_change.high) == (0, 0)
    assert report.items == report.tokens == 37


def test_one_item_says_nothing_of_others(model: rt.Model) -> None:
    source = ArtifactLogits(model)
    with pytest.raises(SparsecompError, match="too little to tell"):
        tasks(source, source, item_windows(ITEMS[:1], model))
