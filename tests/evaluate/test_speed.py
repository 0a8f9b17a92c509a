"""`sparsecomp bench`: what it reports, not how fast this machine is."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from evaluate_support import WORDS

import sparsecomp.runtime as rt
from sparsecomp.cli.bench import bench_verb, sum_layers
from sparsecomp.cli.inspect import inspect_verb
from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate import bandwidth
from sparsecomp.evaluate.bandwidth import BandwidthReader
from sparsecomp.evaluate.speed import race
from sparsecomp.evaluate.spread import Spread


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth, "BYTES", 1 << 20)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    path = tmp_path / "held.txt"
    path.write_text(WORDS)
    return path


def bench(*arguments: object) -> str:
    found = CliRunner().invoke(bench_verb, list(map(str, arguments)), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def test_json(artifact: Path, model: rt.Model, held: Path) -> None:
    record = json.loads(
        bench(
            artifact,
            "--dense",
            artifact,
            "--text",
            held,
            "--prompt",
            20,
            "--tokens",
            10,
            "--rounds",
            2,
            "--profile",
            "--json",
        )
    )
    assert (record["prompt_tokens"], record["decoded_tokens"], record["rounds"]) == (20, 10, 2)
    manifest = model.manifest
    expected = {part.value: size for part, size in manifest.bytes_per_token.items()}
    kv = sum(range(21, 31)) * manifest.kv_bytes_per_position / 10
    for name in ("artifact", "dense"):
        assert record[name]["bytes_per_token"] == expected | {"kv": kv}
        assert record[name]["blocks"] == []
        kernels = [step["kernel"] for step in record[name]["steps"]]
        assert kernels[0] == "embed" and {"mlp", "barrier", "attend"} <= set(kernels)
        speed = record[name]["decode_tokens_per_second"]
        assert 0 < speed["low"] <= speed["median"] <= speed["high"]
        rate = speed["median"] * (sum(expected.values()) + kv)
        assert record[name]["bytes_per_second"] == pytest.approx(rate)
        share = rate / record["bandwidth"]["median"]
        assert record[name]["share_of_bandwidth"] == pytest.approx(share)
    assert record["dense"]["decode_speed_ratio"] == {"median": 1, "low": 1, "high": 1}
    assert record["bandwidth"]["method"].startswith("numpy")


def test_tables(artifact: Path, held: Path) -> None:
    words = " ".join(
        bench(artifact, "--text", held, "--prompt", 5, "--tokens", 5, "--rounds", 1).split()
    )
    assert "prefill" in words and "KV cache" in words and "numpy.max over int64" in words
    assert "decode over dense" not in words


def test_a_trace_has_both_timelines_of_each_worker(
    artifact: Path, held: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.json"
    options = ("--prompt", 5, "--tokens", 5, "--rounds", 1)
    found = CliRunner().invoke(
        bench_verb, list(map(str, (artifact, "--text", held, *options, "--trace", trace)))
    )
    assert "linear" not in found.stdout
    assert f"{trace}: written; a step is predicted to take" in found.stderr
    assert "median of 40 tokens" in found.stderr and "median of 16 times" in found.stderr
    events = json.loads(trace.read_text())["traceEvents"]
    timed = [event for event in events if event["ph"] == "X"]
    assert {(e["cat"], e["tid"]) for e in timed} == {
        (timeline, worker) for timeline in ("predicted", "measured") for worker in (0, 1)
    }
    own = [e for e in timed if (e["cat"], e["tid"]) == ("measured", 1)]
    assert {"linear", "mlp", "barrier"} <= {e["name"] for e in own}
    for before, after in pairwise(own):  # one thing after the other
        assert after["ts"] == pytest.approx(before["ts"] + before["dur"])
    predicted = {e["args"]["module"]: e["dur"] for e in timed if e["cat"] == "predicted"}
    assert all(length > 0 for length in predicted.values())


def test_the_schedule_is_shown(artifact: Path) -> None:
    shown = CliRunner().invoke(inspect_verb, [str(artifact), "--schedule"], catch_exceptions=False)
    words = shown.stdout.split()
    # Barriers after the attention and the MLP of two layers; linears are too small to be split.
    assert "5 sections; predicted" in " ".join(words)
    assert (words.count("context"), words.count("split")) == (2, 3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--tokens", 10**6), "do not fit the context"),
        (("--tokens", 0), "--prompt and --tokens must be at least 1"),
        (("--rounds", 0), "rounds 0: must be at least 1"),
    ],
)
def test_mistakes(artifact: Path, held: Path, options: tuple[object, ...], problem: str) -> None:
    with pytest.raises(SparsecompError, match=problem):
        bench(artifact, "--text", held, "--prompt", 5, "--tokens", 5, *options)


def test_too_short_a_text(artifact: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("w3 w4 w5")
    with pytest.raises(SparsecompError, match="the text has 3 tokens, 10 are needed"):
        bench(artifact, "--text", short, "--prompt", 5, "--tokens", 5)


def test_on_a_gpu(artifact: Path, held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's bandwidth says nothing there, and nothing times kernels."""
    load, left = rt.load, ["a GPU", "a GPU", "a GPU", "cpu"]

    def on_gpu(path: Path, *, allow_native: bool, device: str) -> rt.Model:
        assert device == "auto"
        model = load(path, device="cpu")
        model.device, model.program = left.pop(0), None
        return model

    monkeypatch.setattr(rt, "load", on_gpu)
    options = ("--text", held, "--prompt", 5, "--tokens", 5, "--rounds", 1)
    record = json.loads(bench(artifact, *options, "--json"))
    assert (record["device"], record["bandwidth"]) == ("a GPU", None)
    assert record["artifact"]["share_of_bandwidth"] is None
    with pytest.raises(SparsecompError, match="time programs for a CPU; give --device cpu"):
        bench(artifact, *options, "--profile")
    with pytest.raises(SparsecompError, match=r"runs on a GPU, .* on cpu; give --device cpu"):
        bench(artifact, *options, "--dense", artifact)


def test_a_race_counts_its_rounds_alone(model: rt.Model) -> None:
    (speed,) = race([model], range(3, 13), prompt=4, rounds=3)
    assert (speed.stats.prefilled, speed.stats.decoded, speed.steps) == (12, 18, ())


def test_bandwidth_is_a_rate() -> None:
    """Of all bytes of all threads, over the time from the first to begin to the last to end."""
    before = os.sched_getaffinity(0)
    found = BandwidthReader([[np.arange(1 << 16)] * 2, [np.arange(1 << 17)]]).read(3)
    assert 0 < found.low <= found.median <= found.high
    assert os.sched_getaffinity(0) == before


def test_spread() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0)


def test_layers_are_summed() -> None:
    steps = [
        rt.StepTime("mlp", "model.layers.0.mlp", 1.0),
        rt.StepTime("mlp", "model.layers.12.mlp", 2.0),
        rt.StepTime("linear", "model.layers.0.mlp", 4.0),
        rt.StepTime("linear", "lm_head2", 8.0),
    ]
    assert sum_layers(steps) == {
        ("mlp", "model.layers.*.mlp"): 3.0,
        ("linear", "model.layers.*.mlp"): 4.0,
        ("linear", "lm_head2"): 8.0,
    }
