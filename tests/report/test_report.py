"""The page about an artifact's sparsity, and what `inspect` says of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from record_support import RECIPE, RECORD, write_artifact

from sparsecomp.cli.inspect import inspect_verb
from sparsecomp.report.charts import (
    Marker,
    Point,
    Series,
    axis_to,
    bars,
    counting_axis,
    percent_axis,
    plot,
)
from sparsecomp.runtime.artifact import Artifact
from sparsecomp.sparsity import Narrow


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSECOMP_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "sparse.spz")


def inspect(*arguments: object) -> str:
    result = CliRunner().invoke(inspect_verb, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


class Tags(HTMLParser):
    """Checks that tags close in order; keeps what is loaded from elsewhere."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.outside += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_alone(sparse: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    inspect(sparse, "--html", page)
    text = page.read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == [] and tags.outside == []
    assert "<script" not in text and "@import" not in text and "url(" not in text
    assert "toy &lt;1&gt;" in text and "<1>" not in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_says_every_figure_in_words(sparse: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    inspect(sparse, "--html", page)
    text = page.read_text()
    for block in RECORD.blocks:
        assert f"<code>{block.module}</code>" in text
        assert f"{block.module}: {block.density:.1%} chosen" in text
    for figure in ("93.8%", "56.2%", "0.016 MB", "0.026 MB", "61.5%", "1.00%", "+0.44%", "essays"):
        assert figure in text, figure
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert [title.split(" ")[0] for title in titles] == ["Share", "Recall", "Bytes", "What"]


def test_a_page_without_a_record(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    inspect(write_artifact(tmp_path / "bare.spz", None), "--html", page)
    text = page.read_text()
    assert "layers.1.mlp: 25.0% chosen" in text and "layers.0.mlp" not in text
    assert "What a quality budget buys" not in text


def test_summary(sparse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    words = " ".join(inspect(sparse).split())
    for fact in (
        "allowed +1.00% perplexity",
        "measured +0.44% (+0.11% to +0.77%)",
        "mlp 12,000 75.0% 24,000 50.0%",
        "predictors 2,000 12.5% 0",
        "all 16,000 100.0% 26,000 61.5%",
        "layers.2.mlp mlp 64 25.0% 12.5% 93.8% 56.2%",
    ):
        assert fact in words, fact


def test_blocks_in_fewer_bits_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    first, *rest = RECORD.blocks
    narrow = replace(first, choice=Narrow(bits=6, output_bits=8), sparse_bytes=7000, cost=0.0012)
    path = write_artifact(tmp_path / "a.spz", replace(RECORD, blocks=(narrow, *rest)))
    assert "layers.0.mlp mlp 6 8 0.0012" in " ".join(inspect(path).split())
    page = tmp_path / "report.html"
    inspect(path, "--html", page)
    assert "narrow, 6 and 8 bits" in page.read_text()
    assert json.loads(inspect(path, "--json"))["sparsity"]["blocks"][0]["choice"] == {
        "bits": 6,
        "output_bits": 8,
        "key_value_bits": 0,
    }
    keys = replace(narrow, choice=replace(narrow.choice, key_value_bits=5))
    path = write_artifact(tmp_path / "b.spz", replace(RECORD, blocks=(keys, *rest)))
    assert "layers.0.mlp mlp 6 5 8 0.0012" in " ".join(inspect(path).split())
    inspect(path, "--html", page)
    assert "narrow, 6, 5 and 8 bits" in page.read_text()


def test_json_and_recipe(sparse: Path) -> None:
    record = json.loads(inspect(sparse, "--json"))
    assert record["bytes_per_token"] == {"mlp": 12000, "predictors": 2000, "head": 2000}
    assert record["dense_bytes_per_token"]["mlp"] == 24000
    assert [block["module"] for block in record["blocks"]] == ["layers.1.mlp", "layers.2.mlp"]
    assert record["sparsity"]["blocks"][1]["choice"]["rank"] == 8
    assert record["sparsity"]["measured"]["value"] == 1.0044
    assert inspect(sparse, "--recipe") == RECIPE


def test_the_record_comes_back(sparse: Path, tmp_path: Path) -> None:
    with Artifact.open(sparse) as artifact:
        assert artifact.read_record() == RECORD
    with Artifact.open(write_artifact(tmp_path / "bare.spz", None)) as artifact:
        assert artifact.read_record() is None


def test_positions_in_a_chart() -> None:
    points = [Point(0, 1.0, "top left"), Point(1, 0.5, "half way up")]
    made = plot("t", counting_axis("x", 1), percent_axis("y"), [Series("s", Marker.DISC, points)])
    top_left, half = made.series[0].points
    assert (top_left.x, top_left.y) == (made.left + (made.right - made.left) / 4, made.top)
    assert half.y == (made.top + made.bottom) / 2
    assert [tick.text for tick in made.y_ticks] == ["0%", "25%", "50%", "75%", "100%"]
    assert [tick.text for tick in made.x_ticks] == ["0", "1"]


@pytest.mark.parametrize(
    ("high", "ticks"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.011, [0, 0.005, 0.01, 0.015]),
        (37, [0, 10, 20, 30, 40]),
    ],
)
def test_ticks_are_round(high: float, ticks: list[float]) -> None:
    axis = axis_to("x", high, str)
    assert axis.ticks[: len(ticks)] == pytest.approx(ticks) and axis.high >= high


def test_bars_are_as_long_as_their_values() -> None:
    made = bars("t", [("a", [("x", 10.0), ("y", 5.0)]), ("b", [("x", 0.0)])], str)
    (first, second), (third,) = (group.bars for group in made.groups)
    assert first.length == 2 * second.length > 0 == third.length
    assert first.y < second.y < third.y < made.height
