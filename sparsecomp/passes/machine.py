"""What the kernels of a decode step take on a target, in nanoseconds.

A step is bound by the bytes that it reads, so a kernel takes as long as its weights and its part of
the KV cache need at the bandwidth, and a little for each float of its buffers, which lie in cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Mode, buffer_of, shape_of
from sparsecomp.dialects.reads import tables_of, weight_bytes

from .cost import LISTED


@dataclass(frozen=True)
class Machine:
    """`bandwidth`: bytes a nanosecond that one worker reads while all of them do. `barrier`:
    nanoseconds that all wait after the last has come. `kernel`: nanoseconds of a call. `element`:
    nanoseconds for a float in cache. `head`: nanoseconds of a head over up to 64 keys, besides
    their bytes. `context`: positions attended to.

    Measured on x86-64-v4 (see codegen/native/README.md).
    """

    bandwidth: float = 20.0
    barrier: float = 250.0
    kernel: float = 20.0
    element: float = 0.1
    head: float = 40.0
    context: int = 128

    def nanoseconds(self, op: exec.Kernel, worker: int, workers: int) -> float:
        """What a worker's part of a kernel takes; of units that are queued, an equal share."""
        share = _share(op, worker, workers)
        return 0.0 if share == 0 else self.kernel + share * self.whole(op)

    def whole(self, op: exec.Kernel) -> float:
        """What all of a kernel takes one worker."""
        read = self._bytes_read(op) / self.bandwidth
        return read + self.element * _elements(op) + self._scores(op)

    def _bytes_read(self, op: exec.Kernel) -> float:
        """As bytes in order: a listed neuron costs its reader a jump."""
        match op:
            case exec.Embed() | exec.Rope():  # one row of a table
                return sum(float(s.row_bytes(math.prod(s.dims[1:]))) for s in tables_of(op))
            case exec.Attend():
                return self.context * self._position_bytes(op)
            case exec.SparseMlp():
                neurons = exec.find_storage(op, op.weights).dims[0]
                return weight_bytes(op) + neurons * op.density.value.data * LISTED
            case exec.SparseHead():
                rows = shape_of(op.out)[1]
                return weight_bytes(op) + rows * op.density.value.data * LISTED
            case _:
                return weight_bytes(op)

    def _position_bytes(self, op: exec.Attend) -> float:
        """Bytes of keys and values of one position."""
        module = op.parent_op()
        while not isinstance(module, ModuleOp):
            assert module is not None
            module = module.parent_op()
        slots = (s for s in module.ops if isinstance(s, exec.KVSlot) and s.slot == op.slot)
        sizes = (s.groups.value.data * (s.key.value.data + s.value.value.data) for s in slots)
        return float(next(sizes, 0) * exec.cache_item(module))

    def _scores(self, op: exec.Kernel) -> float:
        """What the heads of an attention take besides the bytes, all positions together."""
        if not isinstance(op, exec.Attend):
            return 0.0
        blocks = math.ceil(self.context / 64)
        return self.head * blocks * shape_of(op.q)[1]


def _share(op: exec.Kernel, worker: int, workers: int) -> float:
    """The share of a kernel that a worker does."""
    work = op.work_of
    match work.mode:
        case Mode.SPLIT:
            units = max(work.bounds[-1], 1)
            return (work.bounds[worker + 1] - work.bounds[worker]) / units
        case Mode.ONE:
            return float(work.bounds[0] == worker)
        case Mode.EACH:
            return 1.0
        case Mode.IDLE:
            return 0.0
        case _:
            return 1 / workers


def _elements(op: exec.Kernel) -> int:
    """Floats of a kernel's buffers; of products, of the results alone."""
    products = exec.Linear | exec.SparseLinear | exec.Neurons | exec.Mlp | exec.SparseMlp
    read = op.operands[-1:] if isinstance(op, products | exec.Sketch) else op.operands
    return sum(math.prod(shape_of(v)[1:]) for v in read if buffer_of(v) is not None)
