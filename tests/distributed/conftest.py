"""Artifacts of a tiny model, whole and split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transformers.utils import logging


@pytest.fixture(autouse=True, scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs compiled here are remembered here, not in the user's directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        logging.disable_progress_bar()
        yield


@pytest.fixture(scope="session")
def artifact_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A model with a tokenizer of 320 tokens, split so many ways; do not write to it. Its heads
    have their keys and values in common, so only the first rank has any."""
    directory = tmp_path_factory.mktemp("tiny")
    made: dict[int, Path] = {}

    def make(shards: int) -> Path:
        from families import make_model_dir
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        from sparsecomp.compile import compile_model
        from sparsecomp.options import CompileOptions, Dtype

        if not made:
            shape = {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 1}
            path = make_model_dir(
                "llama", directory / "model", vocab_size=320, eos_token_id=None, **shape
            )
            alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
            tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            tokenizer.save(str(path / "tokenizer.json"))
        if shards not in made:
            made[shards] = directory / f"{shards}.spz"
            compile_model(
                CompileOptions(
                    model_dir=directory / "model",
                    output=made[shards],
                    dtype=Dtype.F32,
                    workers=2,
                    shards=shards,
                )
            )
        return made[shards]

    return make
