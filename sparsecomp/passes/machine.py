"""What the kernels of a decode step take on a target, in nanoseconds.

From memory a kernel is bound by the bytes that it reads, its weights and its part of the KV cache;
where these lie in a cache, by its instructions. Both go on at once, but not wholly. Each float of
its buffers takes a little besides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from sparsecomp.dialects import exec
from sparsecomp.dialects.exec import Mode, buffer_of, shape_of
from sparsecomp.dialects.reads import tables_of, weight_bytes

from .cost import LISTED
from .instructions import computing


@dataclass(frozen=True)
class Machine:
    """`bandwidth`: bytes a nanosecond that one worker reads while all of them do. `apart`: of
    reading and computing, the share of the shorter that the longer does not hide. `barrier`:
    nanoseconds that all wait after the last has come. `kernel`: nanoseconds of a call; `start`: of
    each run of bytes in order, until the first come. `element`: nanoseconds for a float in cache;
    `packed`: for one that is quantised. `score`: nanoseconds for an element of a key or value that
    is widened, and again for each head that it is multiplied by. `head`: nanoseconds of a head over
    up to 64 keys, besides these. `context`: positions attended to.

    Measured on x86-64-v4 (see codegen/native/README.md).
    """

    bandwidth: float = 20.0
    apart: float = 0.2
    barrier: float = 250.0
    kernel: float = 20.0
    start: float = 300.0
    element: float = 0.1
    packed: float = 1.0
    score: float = 0.02
    head: float = 60.0
    context: int = 128

    def nanoseconds(self, op: exec.Kernel, worker: int, workers: int) -> float:
        """What a worker's part of a kernel takes; of units that are queued, an equal share."""
        share = _share(op, worker, workers)
        call = self.kernel + self.start * _runs(op)
        return 0.0 if share == 0 else call + share * self.whole(op)

    def whole(self, op: exec.Kernel) -> float:
        """What all of a kernel takes one worker."""
        reading = self._bytes_read(op) / self.bandwidth
        shorter, longer = sorted((reading, computing(op) + self._scores(op)))
        return longer + self.apart * shorter + self._elements(op)

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
            case exec.Refine() | exec.SparseHead():
                rows = shape_of(op.out)[1]
                return weight_bytes(op) + rows * op.density.value.data * LISTED
            case _:
                return weight_bytes(op)

    def _position_bytes(self, op: exec.Attend) -> float:
        """Bytes of keys and values of one position."""
        slot = _slot(op)
        sizes = slot.key.value.data + slot.value.value.data
        module = op.get_toplevel_object()
        assert isinstance(module, ModuleOp)
        return float(slot.groups.value.data * sizes * exec.cache_item(module))

    def _scores(self, op: exec.Kernel) -> float:
        """What the heads of an attention compute, all positions together."""
        if not isinstance(op, exec.Attend):
            return 0.0
        slot, heads = _slot(op), shape_of(op.q)[1]
        blocks = math.ceil(self.context / 64)
        sizes = slot.key.value.data + slot.value.value.data
        elements = self.context * sizes * (heads + slot.groups.value.data)
        return self.head * blocks * heads + self.score * elements

    def _elements(self, op: exec.Kernel) -> float:
        """What the floats of a kernel's buffers take; of products, of the results alone."""
        if isinstance(op, exec.Quantize):
            return self.packed * math.prod(shape_of(op.x))
        products = exec.Linear | exec.SparseLinear | exec.Neurons | exec.Mlp | exec.SparseMlp
        read = op.operands[-1:] if isinstance(op, products | exec.Sketch) else op.operands
        floats = (math.prod(shape_of(v)[1:]) for v in read if buffer_of(v) is not None)
        return self.element * sum(floats)


def _runs(op: exec.Kernel) -> int:
    """How many runs of bytes in order a worker reads: the keys of a group, its values, weights."""
    if isinstance(op, exec.Attend):
        return 2 * _slot(op).groups.value.data
    return int(computing(op) > 0)


def _slot(op: exec.Attend) -> exec.KVSlot:
    """What an attention reads. Raises StopIteration where it is not declared."""
    module = op.get_toplevel_object()
    assert isinstance(module, ModuleOp)
    return next(s for s in module.ops if isinstance(s, exec.KVSlot) and s.slot == op.slot)


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
