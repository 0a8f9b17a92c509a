"""What a session read and chose while it decoded, from its program's counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparsecomp.runtime.manifest import KV_COUNTER, TOKENS_COUNTER, BlockKind, Manifest, Part


@dataclass(frozen=True)
class BlockStats:
    """A sparse block: the share of its units chosen, of those read beyond their first product, and
    of those that count as coarse values, or are scored a second time.

    All are means over the decoded tokens, 0 to 1.
    """

    module: str
    kind: BlockKind
    density: float
    active: float
    coarse: float = 0.0


@dataclass(frozen=True)
class Stats:
    """What a session did since it began, or since `reset_stats`.

    `decoded` and `prefilled` are tokens. The rest is about the decoded ones alone: `weight_bytes`
    by part of the model and `kv_bytes` are bytes read in all, `blocks` the sparse ones in order
    (none where nothing was decoded).
    """

    decoded: int
    prefilled: int
    weight_bytes: Mapping[Part, int]
    kv_bytes: int
    blocks: tuple[BlockStats, ...]

    @property
    def bytes_per_token(self) -> float:
        """Bytes of weights and of KV cache that a decoded token read, on average; 0 for none."""
        return (sum(self.weight_bytes.values()) + self.kv_bytes) / max(self.decoded, 1)


@dataclass(frozen=True)
class StepTime:
    """One kernel (or barrier) of a decode step, the module it is part of, and its seconds."""

    kernel: str
    module: str
    seconds: float


def make_stats(manifest: Manifest, counters: Sequence[int], prefilled: int) -> Stats:
    """`counters`, as the manifest describes them, in units, neurons, tokens and bytes."""
    decoded = counters[TOKENS_COUNTER]
    weights = {part: size * decoded for part, size in manifest.fixed_bytes_per_token.items()}
    blocks = []
    for block in manifest.blocks:
        chosen = counters[block.chosen_counter]
        active = chosen if block.active_counter is None else counters[block.active_counter]
        coarse = 0 if block.coarse is None else counters[block.coarse.counter]
        read = chosen * block.chosen_bytes + active * block.active_bytes
        if block.coarse is not None:
            read += coarse * block.coarse.bytes
        weights[block.part] = weights.get(block.part, 0) + read
        if decoded:
            units = block.units * decoded
            shares = (count / units for count in (chosen, active, coarse))
            blocks.append(BlockStats(block.module, block.kind, *shares))
    return Stats(decoded, prefilled, weights, counters[KV_COUNTER], tuple(blocks))
