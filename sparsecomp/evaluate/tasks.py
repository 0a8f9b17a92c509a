"""Tasks with one right continuation, such as LAMBADA: a file of items, and how both models do."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.bootstrap import Bootstrap, Estimate, exp_mean, mean
from sparsecomp.evaluate.logits import FIRST_DECODED, LogitSource, Window
from sparsecomp.evaluate.scores import score
from sparsecomp.evaluate.texts import encode
from sparsecomp.observer import Observer, SilentObserver
from sparsecomp.runtime import Model

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Item:
    """A context, and the text that should follow it."""

    context: str
    continuation: str


@dataclass(frozen=True)
class TaskFile:
    """Items of a file; `sha256` is the hex hash of its bytes."""

    path: Path
    sha256: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class ItemWindows:
    """A window for each item; of `shortened` of them the context lost its beginning."""

    windows: tuple[Window, ...]
    shortened: int


@dataclass(frozen=True)
class TaskReport:
    """An artifact against its reference on the same items.

    `accuracy` is the share of items of which every token of the continuation is the top one;
    `accuracy_change` is that of the artifact less that of the reference. Perplexity is that of
    the continuations' tokens, `ratio` that of the artifact over that of the reference. Of
    `shortened` items the beginning of the context was left out, to fit the model's.
    """

    accuracy: Estimate
    reference_accuracy: Estimate
    accuracy_change: Estimate
    perplexity: Estimate
    reference_perplexity: Estimate
    ratio: Estimate
    items: int
    shortened: int
    tokens: int
    seconds: float


def read_tasks(path: Path, limit: int | None = None) -> TaskFile:
    """The first `limit` items of a JSONL file (None: all), plain or gzipped.

    A line is {"context": ..., "continuation": ...}, or has that under "request".
    Raises SparsecompError, with the line, for a file that is not so.
    """
    if limit is not None and limit < 1:
        raise SparsecompError(f"limit {limit}: must be 1 at least")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SparsecompError(f"{path}: cannot be read: {error.strerror}") from error
    items = tuple(itertools.islice(_items(path, data), limit))
    if not items:
        raise SparsecompError(f"{path}: holds no items")
    return TaskFile(path, hashlib.sha256(data).hexdigest(), items)


def item_windows(items: Sequence[Item], model: Model) -> ItemWindows:
    """The items, tokenised for `model`: the tokens of the continuations are what is scored.

    A context too long for the model loses its beginning, never its end.
    Raises SparsecompError for an item with too short a context, a continuation too long for the
    model, or one that is not a token by itself.
    """
    context = model.manifest.model.context
    windows, shortened = [], 0
    for number, item in enumerate(items, start=1):
        prefix, whole = encode(model.tokenizer, item.context + item.continuation)
        # Most tokenizers put a space with the word after it.
        _, before = encode(model.tokenizer, item.context.rstrip())
        target = whole[len(before) :]
        given = prefix + whole[: len(before)]
        if not target:
            raise SparsecompError(f"item {number}: its continuation adds no token to its context")
        if len(given) < FIRST_DECODED:
            raise SparsecompError(
                f"item {number}: its context has {len(given)} tokens; give {FIRST_DECODED} or more"
            )
        room = context - len(prefix) - len(target)
        if room < FIRST_DECODED:
            raise SparsecompError(
                f"item {number}: its continuation is {len(target)} tokens, too long for the "
                f"model's context of {context}"
            )
        if len(before) > room:
            given = prefix + whole[len(before) - room : len(before)]
            shortened += 1
        windows.append(Window(np.array(given + target, np.int32), len(given)))
    return ItemWindows(tuple(windows), shortened)


def tasks(
    artifact: LogitSource,
    reference: LogitSource,
    items: ItemWindows,
    observer: Observer | None = None,
) -> TaskReport:
    """How both continue the items; the artifact decodes the context too, token by token.

    Raises SparsecompError for fewer than two items, and where the models cannot be compared.
    """
    each_item = Bootstrap(np.arange(len(items.windows)))
    each_token = Bootstrap(
        np.repeat(np.arange(len(items.windows)), [len(window.targets) for window in items.windows])
    )
    started = time.perf_counter()
    scores = score(artifact, reference, items.windows, observer or SilentObserver())
    seconds = time.perf_counter() - started
    cost = np.concatenate([s.cost for s in scores])
    reference_cost = np.concatenate([s.reference_cost for s in scores])
    right = np.array([s.hit.all() for s in scores], np.float64)
    reference_right = np.array([s.reference_hit.all() for s in scores], np.float64)
    return TaskReport(
        accuracy=each_item.estimate(mean(right)),
        reference_accuracy=each_item.estimate(mean(reference_right)),
        accuracy_change=each_item.estimate(mean(right - reference_right)),
        perplexity=each_token.estimate(exp_mean(cost)),
        reference_perplexity=each_token.estimate(exp_mean(reference_cost)),
        ratio=each_token.estimate(exp_mean(cost - reference_cost)),
        items=len(scores),
        shortened=items.shortened,
        tokens=len(cost),
        seconds=seconds,
    )


def _items(path: Path, data: bytes) -> Iterator[Item]:
    for number, line in enumerate(_lines(path, data), start=1):
        if line.strip():
            yield _item(f"{path}, line {number}", line)


def _lines(path: Path, data: bytes) -> Iterator[str]:
    file = io.BytesIO(data)
    lines = gzip.GzipFile(fileobj=file) if data.startswith(_GZIP) else file
    try:
        for line in lines:
            yield line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SparsecompError(f"{path}: not text (not UTF-8)") from error
    except (OSError, EOFError, zlib.error) as error:
        raise SparsecompError(f"{path}: is not a whole gzip file: {error}") from error


def _item(where: str, line: str) -> Item:
    try:
        entry: Any = json.loads(line)
    except ValueError as error:
        raise SparsecompError(f"{where}: is not JSON: {error}") from error
    if isinstance(entry, dict):
        match entry.get("request", entry):
            case {"context": str(context), "continuation": str(continuation)} if continuation:
                return Item(context, continuation)
    raise SparsecompError(f"{where}: must have two texts, context and continuation")
