"""Export and every pass keep what a model computes: the reference's logits are those of
transformers, pass by pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import FAMILIES
from tiny import POSITIONS, Tiny, load
from transformers import AutoModelForCausalLM
from xdsl.parser import Parser

from sparsecomp.dialects import context
from sparsecomp.reference.interpreter import Interpreter
from sparsecomp.reference.spz import KVCache

MAX_ERROR = 1e-5
"""Relative to the largest logit."""
LENGTH = 13
"""Longer than the families' sliding windows, so that they wrap; no length that was traced."""
PROMPT = 8


def same(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((actual - expected).abs().max() <= MAX_ERROR * expected.abs().max())


def forward(tiny: Tiny, ids: torch.Tensor) -> torch.Tensor:
    """The logits (s, vocab) of @forward at whichever stage."""
    arguments = (ids, torch.arange(len(ids)))
    block = tiny.function("forward").body.block
    given = [
        value.reshape([1] * (len(argument.type.get_shape()) - 1) + [-1])
        for value, argument in zip(arguments, block.args, strict=False)
    ]
    (logits,) = Interpreter(tiny.module, tiny.weights, POSITIONS).run("forward", *given)
    return logits.reshape(len(ids), -1)


def prefill_and_decode(tiny: Tiny, ids: torch.Tensor) -> torch.Tensor:
    """The logits from the end of the prompt on, (s - PROMPT + 1, vocab)."""
    interpreter = Interpreter(tiny.module, tiny.weights, POSITIONS)
    positions, cache = torch.arange(len(ids)), KVCache()
    rows = [*interpreter.run("prefill", ids[:PROMPT], positions[:PROMPT], cache)]
    for at in range(PROMPT, len(ids)):
        rows += interpreter.run("decode", ids[at : at + 1], positions[at : at + 1], cache)
    return torch.cat(rows)


@torch.no_grad()
def transformers_logits(path: Path, ids: torch.Tensor) -> torch.Tensor:
    """(s, vocab), with eager attention."""
    model = AutoModelForCausalLM.from_pretrained(
        path, attn_implementation="eager", dtype=torch.float32
    )
    return model.eval()(ids[None]).logits[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family: str, model_dir_of: Callable[[str], Path]) -> None:
    tiny = load(model_dir_of(family))
    ids = torch.randint(3, 64, (LENGTH,), generator=torch.Generator().manual_seed(0))
    expected = transformers_logits(model_dir_of(family), ids)
    assert same(forward(tiny, ids), expected), "export"
    assert same(forward(tiny, ids[:2]), expected[:2]), "export"
    text = str(tiny.module)
    assert str(Parser(context(), text).parse_module()) == text

    def check(name: str) -> None:
        if name == "derive-decode":
            assert same(prefill_and_decode(tiny, ids), expected[PROMPT - 1 :]), name
        else:
            assert same(forward(tiny, ids), expected), name

    tiny.run(check)
