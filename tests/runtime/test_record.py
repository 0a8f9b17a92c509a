"""sparsity.json: what goes in comes out, and nothing else comes out."""

from __future__ import annotations

import copy
import dataclasses
import json
import math

import pytest

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.manifest import BlockKind
from sparsecomp.runtime.record import (
    Attempt,
    BlockRecord,
    CurvePoint,
    OptionRecord,
    Ratio,
    Record,
    Split,
    TextSource,
    encode_record,
    parse_record,
)
from sparsecomp.sparsity import Cutoff, Exact, LowRank

LOW_RANK = LowRank(rank=8, density=0.1, active=0.05, threshold=-0.5)
CUTOFF = Cutoff(of=Exact.NEURON, threshold=0.25, density=0.6)
RECORD = Record(
    model="toy",
    budget=0.01,
    measured=Ratio(1.004, 1.001, 1.007),
    dense_because=None,
    seed=7,
    texts=(TextSource("essays.txt", "ab" * 32),),
    tokens={Split.TRAIN: 1000, Split.SEARCH: 300, Split.TEST: 150},
    blocks=(
        BlockRecord(
            module="layers.0.mlp",
            kind=BlockKind.MLP,
            units=64,
            choice=LOW_RANK,
            density=0.1,
            recall=0.97,
            precision=0.5,
            dense_bytes=8192,
            sparse_bytes=1500,
            cost=0.002,
            options=(
                OptionRecord(LOW_RANK, 0.002, 0.97, 0.5, 1500),
                OptionRecord(CUTOFF, 0.0, None, None, 6000),
            ),
        ),
        BlockRecord(
            module="layers.0.self_attn",
            kind=BlockKind.ATTENTION,
            units=4,
            choice=None,
            density=1.0,
            recall=None,
            precision=None,
            dense_bytes=4096,
            sparse_bytes=4096,
            cost=0.0,
            options=(),
        ),
    ),
    curve=(CurvePoint(0.0, 12288), CurvePoint(0.004, 5596)),
    attempts=(
        Attempt(0.01, Ratio(1.02, 1.015, 1.025), kept=False),
        Attempt(0.005, Ratio(1.004, 1.001, 1.007), kept=True),
    ),
)


def test_round_trip() -> None:
    assert parse_record(encode_record(RECORD)) == RECORD
    dense = dataclasses.replace(RECORD, budget=None, measured=None, dense_because="nothing pays")
    assert parse_record(encode_record(dense)) == dense


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d.update(format_version=2), "format_version: is 2, this runtime reads up to 1"),
        (lambda d: d.pop("format_version"), "format_version: is not a positive integer"),
        (lambda d: d.pop("curve"), "curve: is missing"),
        (lambda d: d.update(extra=1), "extra: is not known"),
        (lambda d: d.update(seed=-1), "seed: is -1, must be 0 to"),
        (lambda d: d.update(budget=1), "budget: is int, must be float"),
        (lambda d: d.update(tokens={"trial": 1}), "tokens: is 'trial', must be one of train"),
        (lambda d: d["texts"][0].update(sha256="ab"), "texts[0].sha256: is not a SHA-256"),
        (lambda d: d["blocks"][0].update(recall=1.5), "blocks[0].recall: is 1.5, must be 0 to 1"),
        (lambda d: d["blocks"][0].update(kind="moe"), "blocks[0].kind: is 'moe', must be one of"),
        (lambda d: d["blocks"][1].update(module="layers.0.mlp"), "blocks: a module is given twice"),
        (
            lambda d: d["blocks"][0]["choice"].update(rank=0),
            "blocks[0].choice: rank is 0; it must be at least 1",
        ),
        (
            lambda d: d["blocks"][0]["choice"].pop("rank"),
            "blocks[0].choice: has not the fields of LowRank or Approximate",
        ),
        (lambda d: d["attempts"][0].update(kept=1), "attempts[0].kept: is int, must be bool"),
    ],
)
def test_damaged(change, problem: str) -> None:
    document = json.loads(encode_record(RECORD))
    damaged = copy.deepcopy(document)
    change(damaged)
    with pytest.raises(SparsecompError) as caught:
        parse_record(json.dumps(damaged).encode())
    assert str(caught.value).startswith(f"sparsity.json: {problem}")


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"seed": NaN}', b'{"a":1,"a":1}'])
def test_not_a_record(text: bytes) -> None:
    with pytest.raises(SparsecompError, match=r"^sparsity.json: "):
        parse_record(text)


def test_only_numbers_are_written() -> None:
    wrong = dataclasses.replace(RECORD, budget=math.nan)
    with pytest.raises(SparsecompError, match=r"sparsity.json: "):
        encode_record(wrong)
    endless = encode_record(RECORD).replace(b'"budget": 0.01', b'"budget": 1e999')
    with pytest.raises(SparsecompError, match=r"budget: is not a finite number"):
        parse_record(endless)
