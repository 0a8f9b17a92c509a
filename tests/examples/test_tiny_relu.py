"""tests/data/tiny-relu, the model that tests of sparsity use: small, learned and sparse."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

DATA = Path(__file__).parents[1] / "data"
WINDOWS, CONTEXT = 16, 256
LOSS = 4.726
ACTIVE = [0.279, 0.035, 0.031, 0.038]
"""Measured when it was made; float32 on other machines differs by less than the tolerance."""


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in (DATA / "tiny-relu").iterdir()) < 6_000_000


def test_it_has_learned_and_its_neurons_are_sparse() -> None:
    model = AutoModelForCausalLM.from_pretrained(DATA / "tiny-relu", dtype=torch.float32).eval()
    active: dict[int, float] = {}
    for index, layer in enumerate(model.model.decoder.layers):
        layer.activation_fn.register_forward_hook(
            lambda module, given, result, index=index: active.update(
                {index: (result > 0).float().mean().item()}
            )
        )
    text = (DATA / "held-out.txt").read_text(encoding="utf-8")
    ids = AutoTokenizer.from_pretrained(DATA / "tiny-relu")(text).input_ids
    windows = torch.tensor(ids[: WINDOWS * CONTEXT]).reshape(WINDOWS, CONTEXT)
    with torch.no_grad():
        loss = model(windows, labels=windows).loss.item()
    # A model that knew nothing would lose ln 2048 = 7.6 a token.
    assert loss == pytest.approx(LOSS, abs=0.02), math.exp(loss)
    assert list(active.values()) == pytest.approx(ACTIVE, abs=0.01)
