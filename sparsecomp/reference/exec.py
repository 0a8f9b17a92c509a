"""Runs the exec stage as it is scheduled: every worker's part, at the planned offsets.

Workers run one after the other between two barriers, in either order. So a share that is missing,
bytes used twice or a barrier left out shows as a wrong number: memory nobody has written is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp
from xdsl.ir import SSAValue

from sparsecomp.dialects import aten, exec
from sparsecomp.dialects.exec import Mode, Space, row_strides, shape_of
from sparsecomp.errors import SparsecompError
from sparsecomp.rounding import round_to
from sparsecomp.sketch_rounding import rounded_cascade, rounded_sketch

from .evaluate import AddUp, Derived, Scope, Weights, find_symbol, torch_dtype
from .kernels import KERNELS
from .spz import coarse as coarse_rows

FLOAT = 4


class Stored:
    """The weights of a module's storages, rounded to what each is stored as, in float32."""

    def __init__(self, module: ModuleOp, weights: Weights, positions: int):
        self.scope = Scope(1, weights, Derived(positions))
        self._values: dict[tuple[exec.Storage, bool], tuple[torch.Tensor, ...]] = {}
        self.cache_dtype = torch.bfloat16 if exec.cache_item(module) == 2 else torch.float32

    def get(self, storage: exec.Storage, coarse: bool = False) -> tuple[torch.Tensor, ...]:
        """The tensors in a storage; if asked, what the high planes say of them."""
        if (storage, coarse) not in self._values:
            names = [symbol.string_value() for symbol in storage.of]
            by_columns = storage.layout.data is exec.Layout.COLUMNS
            neuron_major = storage.layout.data is exec.Layout.NEURON_MAJOR
            self._values[storage, coarse] = tuple(
                _stored(
                    self._weight(storage, name),
                    storage,
                    by_columns or (neuron_major and name == names[-1]),
                    coarse,
                )
                for name in names
            )
        return self._values[storage, coarse]

    def _weight(self, storage: exec.Storage, name: str) -> torch.Tensor:
        declaration = find_symbol(storage, name)
        if isinstance(declaration, aten.Derived):
            return self.scope.derived.get(declaration, self.scope.weights)
        return self.scope.weights(name)


def _stored(
    weight: torch.Tensor, storage: exec.Storage, by_columns: bool, coarse: bool
) -> torch.Tensor:
    """What a storage keeps of a weight. Quantised rows are its rows, or its columns."""
    if not storage.quantised:
        return weight.to(torch_dtype(storage.element)).float()
    if storage.layout.data is exec.Layout.SKETCH:  # its biases are floats
        if weight.dim() == 1:
            return weight
        return rounded_sketch(weight, storage.bits).values(weight.shape[1])
    if storage.layout.data is exec.Layout.REFINEMENT:
        _, refinement = rounded_cascade(weight)
        return refinement.values(weight.shape[1])
    rows = weight.T if by_columns else weight
    kept = coarse_rows(rows) if coarse else round_to(rows, storage.bits)
    return kept.T if by_columns else kept


@dataclass(frozen=True)
class Ring:
    """Keys (groups, ring, D) and values (groups, ring, E): position p lies at p % ring."""

    k: torch.Tensor
    v: torch.Tensor

    @staticmethod
    def of(slot: exec.KVSlot, capacity: int, tile: int, dtype: torch.dtype) -> Ring:
        groups, key, value = (n.value.data for n in (slot.groups, slot.key, slot.value))
        # A tile is written before it is read: a window keeps that much more.
        ring = capacity if slot.window is None else min(capacity, slot.window.value.data + tile)
        return Ring(
            torch.full((groups, ring, key), math.nan, dtype=dtype),
            torch.full((groups, ring, value), math.nan, dtype=dtype),
        )

    def write(self, positions: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        """Rows k (n, groups, D) and v (n, groups, E) become these positions."""
        at = positions % self.k.shape[1]
        self.k[:, at] = k.transpose(0, 1).to(self.k.dtype)
        self.v[:, at] = v.transpose(0, 1).to(self.v.dtype)

    def read(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """k (groups, n, D) and v (groups, n, E) of these positions."""
        at = positions % self.k.shape[1]
        return self.k[:, at].float(), self.v[:, at].float()


@dataclass(frozen=True)
class Call:
    """One call of a program: its arenas, and what it was given."""

    workers: int
    shared: torch.Tensor
    """1-D"""
    private: torch.Tensor
    """(workers, floats of one arena)"""
    tokens: torch.Tensor
    positions: torch.Tensor
    logits: torch.Tensor
    """1-D"""
    full_logits: bool
    rings: dict[int, Ring]
    stored: Stored
    add_up: AddUp | None
    integers: bool = False


@dataclass(frozen=True)
class Worker:
    """A call as one worker sees it: `rows` are its rows of the tile."""

    call: Call
    number: int
    rows: range

    @property
    def tokens(self) -> torch.Tensor:
        return self.call.tokens[self.rows.start : self.rows.stop]

    @property
    def positions(self) -> torch.Tensor:
        return self.call.positions[self.rows.start : self.rows.stop]

    def tensor(self, value: SSAValue, worker: int | None = None) -> torch.Tensor:
        """A buffer as a tensor that shares its memory: this worker's, or that of another one."""
        shape, op = shape_of(value), value.owner
        match op:
            case exec.Buffer():
                memory, start = self._memory(op, self.number if worker is None else worker)
                step, strides = math.prod(shape[1:]), row_strides(shape)
            case exec.View():
                memory = self.tensor(op.source, worker)
                start = int(memory.storage_offset()) + op.start.value.data
                step = memory.stride(0)
                strides = tuple(int(n) for n in op.strides.get_values())
            case exec.Constant():
                # The same for every row.
                (memory,) = self.call.stored.get(exec.find_storage(op, op.storage))
                shape = (1, *shape)
                start, step, strides = 0, 0, row_strides(shape)
            case _:
                raise AssertionError("a value that is no buffer")
        rows = len(self.rows) if shape[0] == DYNAMIC_INDEX else shape[0]
        return memory.as_strided((rows, *shape[1:]), (step, *strides), start)

    def _memory(self, buffer: exec.Buffer, worker: int) -> tuple[torch.Tensor, int]:
        assert buffer.space is not None
        if buffer.space.data is Space.OUTPUT:
            return self.call.logits, 0
        assert buffer.offset is not None
        start = buffer.offset.value.data // FLOAT
        if buffer.space.data is Space.SHARED:
            shape = shape_of(buffer.result)
            if shape[0] == DYNAMIC_INDEX:  # its own rows
                start += self.rows.start * math.prod(shape[1:])
            return self.call.shared, start
        return self.call.private, worker * self.call.private.shape[1] + start

    def all_rows(self) -> Worker:
        """A worker that has the rows of all."""
        return Worker(self.call, self.number, range(len(self.call.tokens)))

    def all_parts(self, value: SSAValue) -> torch.Tensor:
        """The partial results of every worker, in a new first dimension."""
        return torch.stack([self.tensor(value, w) for w in range(self.call.workers)])

    def units(self, op: exec.Kernel, count: int) -> slice:
        """This worker's share of `count` units."""
        work = op.work_of
        if work.mode is not Mode.SPLIT:  # of a queue, the first to come takes all
            return slice(0, count)
        assert work.bounds[0] == 0 and work.bounds[-1] == count, "a unit that nobody does"
        return slice(work.bounds[self.number], work.bounds[self.number + 1])

    def works_on(self, op: exec.Kernel) -> bool:
        """Whether this worker has a part in a kernel at all."""
        work = op.work_of
        if work.mode is Mode.ONE:
            return work.bounds[0] == self.number
        if work.mode in (Mode.QUEUE, Mode.IDLE):
            return self.number == 0
        return work.mode is not Mode.ROWS or len(self.rows) > 0

    def weights(self, op: exec.Kernel, name: str, coarse: bool = False) -> tuple[torch.Tensor, ...]:
        """The tensors of the storage that a property names; none when it is absent."""
        symbol = op.properties.get(name)
        if symbol is None:
            return ()
        storage = exec.find_storage(op, symbol)  # type: ignore[arg-type]
        return self.call.stored.get(storage, coarse)

    def weight(self, op: exec.Kernel, name: str) -> torch.Tensor | None:
        found = self.weights(op, name)
        return found[0] if found else None


class Session:
    """One sequence of a scheduled module: what a session of the native program does.

    `capacity` is how many positions it can hold, `positions` what tables are made for. `reverse`
    runs the last worker first: the results must be the same. `add_up` is how a module that is one
    rank's reaches the others. With `integers` a prompt's activations are rounded as a decode step's
    are where quantised rows are multiplied: so native programs do with VNNI.
    """

    def __init__(
        self,
        module: ModuleOp,
        weights: Weights,
        *,
        positions: int,
        capacity: int | None = None,
        reverse: bool = False,
        add_up: AddUp | None = None,
        integers: bool = False,
    ):
        self.add_up = add_up
        self.integers = integers
        self.programs = {op.sym_name.data: op for op in module.ops if isinstance(op, exec.Program)}
        self.reverse = reverse
        self.stored = Stored(module, weights, positions)
        self.tile = _number(self.program("prefill"), "tile") * self.workers
        self.rings = {
            op.slot.value.data: Ring.of(
                op, capacity or positions, self.tile, self.stored.cache_dtype
            )
            for op in module.ops
            if isinstance(op, exec.KVSlot)
        }

    @property
    def workers(self) -> int:
        return _number(self.program("prefill"), "workers")

    def program(self, name: str) -> exec.Program:
        """Raises SparsecompError when there is no such program."""
        if name not in self.programs:
            raise SparsecompError(f"the module has no program @{name}")
        return self.programs[name]

    def prefill(self, tokens: torch.Tensor, pos: int) -> torch.Tensor:
        """Logits (vocab,) after `tokens` (n,) at positions pos..pos + n; n > 0."""
        for start in range(0, len(tokens), self.tile):
            part = tokens[start : start + self.tile]
            wanted = start + len(part) == len(tokens)
            logits = self._run("prefill", part, pos + start, wanted)
        return logits

    def decode(self, token: int, pos: int, full_logits: bool = False) -> torch.Tensor:
        """Logits (vocab,) after one token at position `pos`; `full_logits`: all from the head."""
        return self._run("decode", torch.tensor([token]), pos, True, full_logits)

    def _run(
        self, name: str, tokens: torch.Tensor, pos: int, wanted: bool, full_logits: bool = False
    ) -> torch.Tensor:
        program, workers = self.program(name), self.workers
        call = Call(
            workers,
            torch.full((_number(program, "shared") // FLOAT,), math.nan),
            torch.full((workers, _number(program, "private") // FLOAT), math.nan),
            tokens,
            torch.arange(pos, pos + len(tokens)),
            torch.full((_output_width(program),), math.nan),
            full_logits,
            self.rings,
            self.stored,
            self.add_up,
            self.integers,
        )
        n = len(tokens)
        by_rows = program.tile.value.data > 1
        rows = [
            range(n * w // workers, n * (w + 1) // workers) if by_rows else range(n)
            for w in range(workers)
        ]
        order = [Worker(call, w, rows[w]) for w in range(workers)]
        for phase in phases(program, wanted):
            for worker in reversed(order) if self.reverse else order:
                for op in phase:
                    if worker.works_on(op):
                        KERNELS[type(op)](worker, op)
        return call.logits


def phases(program: exec.Program, wanted: bool) -> Sequence[Sequence[exec.Kernel]]:
    """The kernels between barriers; those for logits alone only if these are wanted."""
    found: list[list[exec.Kernel]] = [[]]
    for op in program.body.block.ops:
        match op:
            case exec.Barrier():
                found.append([])
            case exec.LogitsOnly():
                if not wanted:
                    break
            case exec.Kernel():
                found[-1].append(op)
    return found


def _number(program: exec.Program, name: str) -> int:
    attribute = program.properties.get(name)
    if attribute is None:
        raise SparsecompError(f"program @{program.sym_name.data} has no {name}: not scheduled yet")
    return int(attribute.value.data)  # type: ignore[attr-defined]


def _output_width(program: exec.Program) -> int:
    return sum(
        math.prod(shape_of(op.result))
        for op in program.body.block.ops
        if isinstance(op, exec.Buffer) and op.space == exec.SpaceAttr(Space.OUTPUT)
    )
