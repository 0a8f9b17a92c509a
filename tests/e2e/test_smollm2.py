"""A real model: its artifact says what transformers says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from e2e_support import Logits, Reference, error

import sparsecomp.runtime as rt

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "smollm2-135m-instruct"
TEXT = ROOT / "benchmarks" / "prompt.txt"
LENGTH = 256
CHUNK = 16
STRIDE = 3
"""Odd, so that chunks end at every place of a tile of 64 rows."""
NEW_TOKENS = 64
MAX_ERROR = 1e-4
MAX_COMPILE_MEMORY = 1.5e9
MAX_LOAD_SECONDS = 1.0
PROMPTS = [
    "The capital of France is",
    "Once upon a time",
    "def fibonacci(n):",
    "The three most important things in life are",
    "Water boils at",
]


@dataclass(frozen=True)
class Compiled:
    """An artifact, the bytes that compiling it took at most, and what else it left behind."""

    artifact: Path
    peak: int
    left: set[Path]


pytestmark = pytest.mark.skipif(
    not (MODEL / "config.json").is_file(), reason=f"{MODEL} is missing: run `make model`"
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Compiled in a process of its own, to see what that takes."""
    folder = tmp_path_factory.mktemp("smollm2")
    for name in ("tmp", "out"):
        (folder / name).mkdir()
    # The peak of this program alone: what getrusage tells outlives the exec of a large parent.
    code = "import sys; from sparsecomp.cli import main\n"
    code += "try: main(sys.argv[1:])\n"
    code += "finally: print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    artifact = folder / "out" / "model.spz"
    done = subprocess.run(
        [sys.executable, "-c", code, "compile", MODEL, "-o", artifact, "--dtype", "f32"],
        env=os.environ | {"TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    left = {file for name in ("tmp", "out") for file in (folder / name).iterdir()} - {artifact}
    return Compiled(artifact, int(done.stdout) * 1024, left)


@pytest.fixture(scope="module")
def artifact(compiled: Compiled) -> Path:
    return compiled.artifact


@pytest.fixture(scope="module")
def model(artifact: Path) -> Iterator[rt.Model]:
    with rt.load(artifact) as model:
        yield model


@pytest.fixture(scope="module")
def ids(model: rt.Model) -> list[int]:
    return model.encode(TEXT.read_text())[:LENGTH]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(MODEL)


@pytest.fixture(scope="module")
def expected(reference: Reference, ids: list[int]) -> Logits:
    return reference.logits(ids)


def test_prefill(model: rt.Model, ids: list[int], expected: Logits) -> None:
    with model.session() as session:
        assert error(session.prefill(ids), expected[-1]) < MAX_ERROR
        for end in range(1, LENGTH + 1, STRIDE):
            start = max(0, end - CHUNK)
            session.rewind(start)
            assert error(session.prefill(ids[start:end]), expected[end - 1]) < MAX_ERROR


def test_decode(model: rt.Model, ids: list[int], expected: Logits) -> None:
    with model.session() as session:
        for token, row in zip(ids, expected, strict=True):
            assert error(session.decode(token), row) < MAX_ERROR


def test_greedy_text(model: rt.Model, reference: Reference) -> None:
    # Where every new token is the likeliest one after those before it, so is the whole text: one
    # pass over the text tells.
    for prompt in PROMPTS:
        ids = model.encode(prompt)
        new = model.generate_ids(prompt, max_new_tokens=NEW_TOKENS)
        logits = reference.logits(ids + new)
        *likeliest, after = logits[len(ids) - 1 :].argmax(-1).tolist()
        assert likeliest == new
        assert len(new) == NEW_TOKENS or after in model.manifest.model.eos_token_ids


def test_loading_again_is_quick(artifact: Path) -> None:
    rt.load(artifact).close()
    start = time.perf_counter()
    with rt.load(artifact) as model:
        seconds = time.perf_counter() - start
        assert np.isfinite(model.session().decode(1)).all()
    print(f"loaded in {seconds:.3f} s")
    assert seconds < MAX_LOAD_SECONDS


def test_compiling_takes_little_memory_and_leaves_nothing(compiled: Compiled) -> None:
    print(f"compiled with {compiled.peak / 1e9:.2f} GB")
    assert compiled.peak < MAX_COMPILE_MEMORY
    assert not compiled.left
