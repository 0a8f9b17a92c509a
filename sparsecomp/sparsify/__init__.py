"""From a model and a budget to a plan that keeps it: calibrate, allocate, check, back off."""

from .result import Sparsified, Trial, TryOut
from .search import sparsify

__all__ = ["Sparsified", "Trial", "TryOut", "sparsify"]
