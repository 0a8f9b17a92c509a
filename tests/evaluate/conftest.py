"""A tiny random model, its artifact, and an artifact of another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from evaluate_support import VOCAB
from families import make_model_dir
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import sparsecomp.runtime as rt
from sparsecomp.compile import compile_model
from sparsecomp.options import CompileOptions, Dtype

BOS = 1


@pytest.fixture(autouse=True, scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs compiled here are remembered here, not in the user's directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSECOMP_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        yield


def make(path: Path, *, seed: int = 0, bos: bool = False, vocab: int = VOCAB) -> Path:
    """A model directory whose tokenizer has a word for each token."""
    make_model_dir("llama", path, seed=seed, vocab_size=vocab)
    words = {f"w{i}": i for i in range(vocab)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="w1 $A", special_tokens=[("w1", BOS)]
        )
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def compiled(model_dir: Path) -> Path:
    output = model_dir.with_suffix(".spz")
    compile_model(CompileOptions(model_dir=model_dir, output=output, dtype=Dtype.F32, workers=2))
    return output


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("evaluate") / "model")


@pytest.fixture(scope="session")
def artifact(model_dir: Path) -> Path:
    return compiled(model_dir)


@pytest.fixture(scope="session")
def other_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of other weights, and of a tokenizer that begins a text with a BOS token."""
    return compiled(make(tmp_path_factory.mktemp("evaluate") / "other", seed=1, bos=True))


@pytest.fixture(scope="session")
def model(artifact: Path) -> Iterator[rt.Model]:
    with rt.load(artifact) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def other_model(other_artifact: Path) -> Iterator[rt.Model]:
    with rt.load(other_artifact) as loaded:
        yield loaded
