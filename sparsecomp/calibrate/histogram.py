"""How magnitudes are distributed, in bounded memory, at any scale."""

from __future__ import annotations

import torch

_MANTISSA = 5
"""Bits of the mantissa that tell bins apart: 32 bins an octave, each 2 to 3 % wide."""
_SHIFT = 23 - _MANTISSA
_BINS = 1 << (31 - _SHIFT)


class Histogram:
    """Counts of float32 magnitudes.

    The bin of a magnitude is the first bits of its float: exponent, then mantissa. So bins are
    spaced by ratio, fit every range, and zeros (with what is below 2^-126) have the first one.
    """

    def __init__(self, counts: torch.Tensor | None = None):
        """`counts` (int64, one a bin) of an earlier histogram; none: empty."""
        self.counts = torch.zeros(_BINS, dtype=torch.int64) if counts is None else counts

    def add(self, magnitudes: torch.Tensor) -> None:
        """Count float32 values, none below 0, of any shape."""
        bins = magnitudes.contiguous().view(torch.int32).flatten() >> _SHIFT
        self.counts += torch.bincount(bins, minlength=_BINS)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def density_at(self, threshold: float) -> float:
        """The share of magnitudes above `threshold`, evenly spread within its bin."""
        above = self._above()
        at = int(torch.tensor(threshold, dtype=torch.float32).view(torch.int32)) >> _SHIFT
        low, high = _edge(at), _edge(at + 1)
        inside = 0.0 if at == 0 else float(self.counts[at]) * (high - threshold) / (high - low)
        return (float(above[at + 1]) + inside) / self.total

    def threshold_at(self, density: float) -> float:
        """The least threshold that leaves at most the share `density` above it."""
        above = self._above()
        wanted = density * self.total
        # The first bin with no more than that above its lower edge, and the one before it.
        at = int((above > wanted).sum())
        if at <= 1:
            return 0.0
        at -= 1
        inside = (wanted - float(above[at + 1])) / float(self.counts[at])
        return _edge(at + 1) - inside * (_edge(at + 1) - _edge(at))

    def _above(self) -> torch.Tensor:
        """For each edge (bins + 1) the count of magnitudes in the bins from it on."""
        sums = self.counts.flip(0).cumsum(0).flip(0)
        return torch.cat([sums, torch.zeros(1, dtype=torch.int64)])


def _edge(bin: int) -> float:
    """The least magnitude of a bin."""
    return float(torch.tensor(bin << _SHIFT, dtype=torch.int32).view(torch.float32))
