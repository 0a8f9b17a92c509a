"""How one rank of a model that is split reaches the others: what the runtime asks of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sparsecomp.runtime.manifest import Shard
from sparsecomp.runtime.sampling import SamplingParams

Floats = npt.NDArray[np.float32]


class Ranks(Protocol):
    """The ranks that run a model together; all do the same calls in the same order.

    What a method raises comes out of the call of the runtime that led to it.
    """

    rank: int
    """This one, from 0."""
    size: int
    local_rank: int
    """Which of its machine's processes this is, from 0: the number of its GPU."""

    add_up_on_gpu: Callable[[int, int], None] | None
    """The same as `add_up` of so many floats at an address of this rank's GPU, which waits for
    nothing else meanwhile; None: sums of GPUs go through the host."""

    def add_up(self, values: Floats) -> None:
        """Replaces `values` (n,) by their sums over all ranks."""

    def sampler(self, params: SamplingParams, shards: Sequence[Shard]) -> Callable[[Floats], int]:
        """What picks the next token from this rank's logits, with the others: the same on all."""
