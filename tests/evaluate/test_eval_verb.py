"""`sparsecomp eval`, from the command line."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from evaluate_support import WORDS

from sparsecomp import cli
from sparsecomp.runtime import Artifact


@pytest.fixture
def held(tmp_path: Path) -> Path:
    path = tmp_path / "held.txt"
    path.write_text(WORDS)
    return path


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    lines = [{"context": "w5 w6 w7", "continuation": f" w{n}"} for n in range(8, 20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of `sparsecomp eval`."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        cli.main(["eval", *map(str, arguments)])
    captured = capsys.readouterr()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, captured.out, captured.err


def test_json_against_the_original(
    capsys: pytest.CaptureFixture[str], artifact: Path, model_dir: Path, held: Path, items: Path
) -> None:
    status, out, err = run(
        capsys, artifact, "--reference", model_dir, "--text", held, "--window", 50,
        "--tokens", 150, "--tasks", items, "--limit", 10, "--json",
    )  # fmt: skip
    assert status == 0
    assert err.splitlines() == [
        f"reference: {model_dir}",
        "text: 3 windows of 50 tokens",
        "tasks: 10 items",
    ]
    record = json.loads(out)
    assert record["artifact"] == str(artifact)
    with Artifact.open(artifact) as opened:
        assert record["artifact_sha256"] == opened.seal
    assert record["reference"] == str(model_dir)
    assert (record["confidence"], record["resamples"], record["seed"]) == (0.95, 1000, 0)
    text, tasks = record["text"], record["tasks"]
    sha256 = hashlib.sha256(held.read_bytes()).hexdigest()
    assert text["files"] == [{"path": str(held), "sha256": sha256}]
    assert (text["window"], text["windows"], text["tokens"]) == (50, 3, 3 * 48)
    assert set(text["ratio"]) == {"value", "low", "high"}
    assert text["ratio"]["value"] == pytest.approx(1, abs=1e-5)
    assert text["kl_mean"]["high"] < 1e-8 and text["same_top"]["value"] == 1
    assert tasks["file"]["sha256"] == hashlib.sha256(items.read_bytes()).hexdigest()
    assert (tasks["items"], tasks["shortened"]) == (10, 0)
    assert tasks["ratio"]["value"] == pytest.approx(1, abs=1e-5)


def test_tables_against_another_artifact(
    capsys: pytest.CaptureFixture[str],
    artifact: Path,
    other_artifact: Path,
    held: Path,
    items: Path,
) -> None:
    status, out, _ = run(
        capsys, artifact, "--dense", other_artifact, "--text", held, "--window", 64,
        "--tasks", items,
    )  # fmt: skip
    assert status == 0
    words = " ".join(out.split())
    assert "text: 248 tokens in 4 windows" in words
    assert "tasks: 12 items, 12 tokens" in words
    for name in ("perplexity of the reference", "KL divergence, mean", "same top token"):
        assert name in words
    rows = [line.split() for line in out.splitlines()]
    ratio = next(row for row in rows if row[:4] == ["ratio", "of", "the", "two"])
    value, low, high = map(float, ratio[4:])
    assert low < value < high


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "t"], "give one of --reference and --dense"),
        (["--text", "t", "--dense", "d", "--reference", "r"], "give one of"),
        (["--dense", "d"], "give --text, --tasks or both"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], artifact: Path, options: list[str], message: str
) -> None:
    status, out, err = run(capsys, artifact, *options)
    assert (status, out) == (2, "") and message in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "missing.txt"], "missing.txt: cannot be read"),
        (["--text", "HELD", "--window", "65"], "window 65: must be 3 tokens to the context of"),
        (["--text", "HELD", "--window", "64", "--tokens", "9"], "tokens 9: must be a window"),
        (["--tasks", "missing.jsonl"], "missing.jsonl: cannot be read"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(
    capsys: pytest.CaptureFixture[str],
    artifact: Path,
    held: Path,
    options: list[str],
    message: str,
) -> None:
    given = [str(held) if option == "HELD" else option for option in options]
    status, out, err = run(capsys, artifact, "--dense", artifact, *given)
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1 and message in err


def test_a_reference_that_is_no_model(
    capsys: pytest.CaptureFixture[str], artifact: Path, held: Path
) -> None:
    for reference in (held, held.parent, held.parent / "none"):
        options = ("--text", held, "--window", 64)
        status, out, err = run(capsys, artifact, "--reference", reference, *options)
        assert (status, out) == (1, "")
        assert err.splitlines()[-1].startswith("error: ") and str(reference) in err
        assert "Traceback" not in err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from sparsecomp import cli; cli._run(['eval', '--help']); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--reference" in done.stdout
    assert not {"numpy", "torch", "rich", "transformers"} & set(done.stderr.split())
