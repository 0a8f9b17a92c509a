"""sparsity.json: how an artifact's sparsity was chosen, as frozen dataclasses.

The compiler writes it, `inspect` and reports show it; running an artifact does not need it.
Read as strictly as the manifest. Shares, recall and precision are 0 to 1; a budget and an increase
are relative to the dense perplexity (0.01: 1 %); bytes are of weights, for one decoded token.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.manifest import BlockKind
from sparsecomp.runtime.strict import (
    NonNegative,
    Positive,
    Share,
    check_version,
    decode,
    parse_json_object,
)
from sparsecomp.sparsity import Choice

RECORD_VERSION = 1


class Split(enum.StrEnum):
    """What a part of the calibration text was for."""

    TRAIN = "train"
    SEARCH = "search"
    TEST = "test"
    """Decided nothing."""


@dataclass(frozen=True)
class TextSource:
    """A text that was read: its file's name, and the hex SHA-256 of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Ratio:
    """Perplexity over the dense model's, with the ends of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OptionRecord:
    """A choice that was considered for a block.

    `cost` is in nats a token, with this block alone sparse. Recall and precision are None where the
    choice is exact. `bytes_per_token` is what the block then reads, its predictor included.
    """

    choice: Choice
    cost: float
    recall: Share | None
    precision: Share | None
    bytes_per_token: NonNegative


@dataclass(frozen=True)
class BlockRecord:
    """A block of the model and what was chosen for it; without a choice it stays dense.

    `density` is the share of its `units` (neurons, heads, rows of the vocabulary) that a token is
    expected to choose. Recall of a head is that of its 50 largest logits. The bytes are those of
    its weights, sparse ones with the predictor. `cost` is the choice's, in nats a token.
    """

    module: str
    kind: BlockKind
    units: Positive
    choice: Choice | None
    density: Share
    recall: Share | None
    precision: Share | None
    dense_bytes: NonNegative
    sparse_bytes: NonNegative
    cost: float
    options: tuple[OptionRecord, ...]


@dataclass(frozen=True)
class CurvePoint:
    """An allocation that was possible: the increase it predicts, and what a token then reads."""

    increase: float
    bytes_per_token: NonNegative


@dataclass(frozen=True)
class Attempt:
    """A program that was built and measured: for which budget, and whether it was kept."""

    budget: float
    ratio: Ratio
    kept: bool


@dataclass(frozen=True)
class Record:
    """All of sparsity.json.

    `budget` is the increase allowed (None: densities were given, not searched). `measured` is what
    the artifact's decode path gave on the search split (None: not measured).
    `dense_because` is why the program is dense, where it is. `tokens` counts each split's.
    `blocks` are all that could be sparse, in the order of the model.
    """

    model: str
    budget: float | None
    measured: Ratio | None
    dense_because: str | None
    seed: NonNegative
    texts: tuple[TextSource, ...]
    tokens: Mapping[Split, NonNegative]
    blocks: tuple[BlockRecord, ...]
    curve: tuple[CurvePoint, ...]
    attempts: tuple[Attempt, ...]


def encode_record(record: Record) -> bytes:
    """JSON text of a record, checked by reading it back. Raises SparsecompError."""
    document = {"format_version": RECORD_VERSION} | dataclasses.asdict(record)
    try:
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except ValueError as error:
        raise SparsecompError(f"sparsity.json: {error}") from None
    parse_record(text)
    return text


def parse_record(text: bytes) -> Record:
    """Reads and checks sparsity.json. Raises SparsecompError naming the field that is wrong."""
    try:
        document = parse_json_object(text)
        check_version(document, RECORD_VERSION)
        record: Record = decode(Record, document)
        for i, source in enumerate(record.texts):
            if not re.fullmatch("[0-9a-f]{64}", source.sha256):
                raise SparsecompError(f"texts[{i}].sha256: is not a SHA-256 in hex")
        if len({block.module for block in record.blocks}) != len(record.blocks):
            raise SparsecompError("blocks: a module is given twice")
        return record
    except SparsecompError as error:
        raise SparsecompError(f"sparsity.json: {error}") from None
