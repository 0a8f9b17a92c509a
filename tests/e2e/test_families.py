"""Every family, through every stage: the artifact's logits are those of transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from e2e_support import compiled, random_ids, reference_logits, worst_decode, worst_prefill
from families import FAMILIES, make_model_dir

from sparsecomp.codegen import build
from sparsecomp.options import Dtype

CONTEXT = 200
WINDOW = 8
"""Sliding windows. What is kept for one, WINDOW + 2 workers * 64 rows, is less than CONTEXT."""
LENGTHS = [1, 2, 63, 64, 65, 127, 128, 129, 183]
"""Of prompts: around what one worker and all of them take at once."""
MAX_ERROR = {Dtype.F32: 1e-5, Dtype.BF16: 2e-2}
"""Relative to the largest logit. For bf16 against transformers with weights rounded to bf16: what
is left is the KV cache."""
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len")


@dataclass(frozen=True)
class Case:
    """A family with fields of its config, and what it is compiled for."""

    family: str
    config: dict[str, Any] = field(default_factory=dict)
    workers: int = 2
    dtype: Dtype = Dtype.F32


def rope(kind: str, **parameters: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1000.0} | parameters}


CASES = {family: Case(family) for family in FAMILIES} | {
    "bf16": Case("llama", dtype=Dtype.BF16),
    "bf16-layer-norm": Case("gpt2", dtype=Dtype.BF16),
    # Nothing is a multiple of a vector, or of the number of workers.
    "odd-sizes": Case(
        "llama",
        {
            "hidden_size": 60,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "intermediate_size": 47,
            "vocab_size": 131,
            "attention_bias": True,
            "mlp_bias": True,
        },
        workers=3,
    ),
    "one-layer-one-kv-head": Case(
        "mistral", {"num_hidden_layers": 1, "num_key_value_heads": 1, "head_dim": 20}, workers=1
    ),
    "more-workers-than-heads": Case("phi", {"tie_word_embeddings": True}, workers=5),
    "window-of-one-layer": Case(
        "qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
    ),
    "rope-linear": Case("llama", rope("linear", factor=4.0)),
    "rope-llama3": Case(
        "llama",
        rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    "rope-yarn": Case("llama", rope("yarn", factor=4.0, original_max_position_embeddings=64)),
    "no-rope-in-a-layer": Case("smollm3", {"no_rope_layers": [0, 1]}),
    "projected-embedding": Case("opt", {"word_embed_proj_dim": 20, "do_layer_norm_before": False}),
    "norms-of-heads": Case("stablelm", {"qk_layernorm": True, "use_qkv_bias": True}),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Programs of plain families, which call the same kernels, are built quickly; what has a name
    of its own is built as users' programs are."""
    if request.param in FAMILIES:
        quick = tuple("-O1" if flag == "-O3" else flag for flag in build.FLAGS)
        monkeypatch.setattr(build, "FLAGS", quick)
    return CASES[request.param]


def test_logits(case: Case, tmp_path: Path) -> None:
    resized = {key: CONTEXT for key in FAMILIES[case.family] if key in POSITIONS}
    if "sliding_window" in FAMILIES[case.family]:
        resized["sliding_window"] = WINDOW
    model_dir = make_model_dir(case.family, tmp_path / "model", **resized | case.config)
    ids = random_ids(CONTEXT, case.config.get("vocab_size", 64))
    weights = torch.float32 if case.dtype is Dtype.F32 else torch.bfloat16
    expected = reference_logits(model_dir, ids, weights=weights)
    bound = MAX_ERROR[case.dtype]
    with compiled(
        model_dir,
        tmp_path / "model.spz",
        dtype=case.dtype,
        workers=case.workers,
        context=CONTEXT,
    ) as model:
        assert worst_prefill(model, ids, expected, LENGTHS) < bound
        # From a prompt that wrapped the window, and until decoding has wrapped it.
        assert worst_decode(model, ids, expected, CONTEXT - 16) < bound
        assert worst_decode(model, ids, expected, 3) < bound
