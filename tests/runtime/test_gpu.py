"""A launch program on a device that only checks: order, memory, what is captured and replayed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from gpu_devices import Launched, NullDevice, Record, Wait, check_order, check_streams
from launch_support import DECODE, TILE, TOY, code_of, members
from runtime_support import CONTEXT, VOCAB

from sparsecomp.errors import SparsecompError
from sparsecomp.runtime.device import DeviceError, choose_code, load_kernels
from sparsecomp.runtime.gpu import GpuProgram
from sparsecomp.runtime.launch import (
    Argument,
    Code,
    LaunchProgram,
    Region,
    Steps,
    cache_places,
)

WEIGHTS = np.arange(CONTEXT, dtype=np.float32)


class Opened:
    """A session of the toy program on a device that does nothing."""

    def __init__(
        self,
        folder: Path,
        program: LaunchProgram = TOY,
        capacity: int = CONTEXT,
        **device: object,
    ) -> None:
        self.device = NullDevice(folder, **device)  # type: ignore[arg-type]
        kernels = load_kernels(program, self.device, members().__getitem__)
        self.engine = GpuProgram(program, kernels, self.device)
        self.model = self.engine.open_model(WEIGHTS.ctypes.data)
        self.session = self.engine.open_session(self.model, capacity)
        self.logits = np.zeros(VOCAB, np.float32)

    def decode(self, token: int, position: int, full_logits: bool = False) -> None:
        self.engine.decode(self.session, token, position, self.logits, full_logits)

    def region(self, region: Region) -> int:
        return self.engine._sessions[self.session].addresses[region]

    def state(self, count: int) -> list[int]:
        address = self.region(Region.STATE)
        found: list[int] = self.device.memory[address:][: 4 * count].view(np.int32).tolist()
        return found


def functions(steps: list[object]) -> list[bytes]:
    return [step.function for step in steps if isinstance(step, Launched)]


FIRST, SECOND = code_of("first", Code.SM_90), code_of("second", Code.SM_90)


def test_a_decode_is_captured_once_and_replayed(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    opened.decode(7, 0)
    first = list(opened.device.log)
    arena = opened.region(Region.ARENA)
    assert functions(first) == [FIRST, SECOND, FIRST, SECOND]
    assert [step for step in first if not isinstance(step, Launched)] == [
        Record(0, 0), Wait(0, 1), Record(1, 1), Wait(1, 0)
    ]  # fmt: skip
    assert first[3] == Launched(SECOND, (1, 1, 1), (arena, 0, arena + 64), 1)
    assert opened.state(9) == [0, 1, 0, CONTEXT, 0, 0, 0, 0, 7]
    opened.decode(8, 1, full_logits=True)
    assert opened.device.log == first * 2 and opened.device.replays == 2
    assert opened.state(9) == [1, 1, 1, CONTEXT, 0, 0, 0, 0, 8]
    assert np.isnan(opened.logits).all()  # as the device's memory was


def test_the_weights_are_there_once(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    opened.engine.open_session(opened.model, CONTEXT)
    size = WEIGHTS.nbytes
    assert opened.device.memory[opened.model :][:size].tobytes() == WEIGHTS.tobytes()
    assert list(opened.device.allocated.values()).count(size) == 1
    assert len(opened.device.allocated) == 3


def test_a_prompt_goes_tile_by_tile(tmp_path: Path) -> None:
    """Logits are computed after the last tile alone, and only if somebody wants them."""
    opened = Opened(tmp_path)
    ids = np.arange(2 * TILE + 1, dtype=np.int32)
    opened.engine.prefill(opened.session, ids, 3, None)
    assert functions(opened.device.log) == [FIRST] * 3
    assert opened.state(9) == [3 + 2 * TILE, 1, 1, CONTEXT, 0, 0, 0, 0, 2 * TILE]
    opened.device.log.clear()
    opened.engine.prefill(opened.session, ids[: TILE + 1], 20, opened.logits)
    assert functions(opened.device.log) == [FIRST, FIRST, SECOND]
    assert opened.device.replays == 0


def test_memory_is_given_back(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    opened.decode(7, 0)
    opened.engine.close_session(opened.session)
    assert list(opened.device.allocated) == [opened.model]
    opened.engine.close_model(opened.model)
    assert not opened.device.allocated


@pytest.mark.parametrize("capacity", (CONTEXT, 8))
def test_a_session_takes_what_its_positions_need(capacity: int, tmp_path: Path) -> None:
    """Keys and values of two slots, the second one a ring: as many as it keeps, padded to 256."""
    sizes = [math.ceil(capacity * size / 256) * 256 for size in (5, 3)] + [256, 256]
    places = cache_places(TOY.slots, CONTEXT)
    read = [Argument(Region.CACHE, place, 1, False) for place in places[:-1]]
    looking = dataclasses.replace(DECODE[0], arguments=tuple(read))
    opened = Opened(tmp_path, with_decode(looking), capacity)
    opened.decode(7, 0)
    (launched,) = opened.device.log
    begins = [sum(sizes[:i]) for i in range(len(sizes))]
    cache = opened.region(Region.CACHE)
    assert list(launched.arguments) == [cache + begin for begin in begins]
    assert opened.region(Region.STATE) - cache == sum(sizes)
    assert opened.state(4) == [0, 1, 0, capacity]


def test_what_is_counted(tmp_path: Path) -> None:
    """What kernels add up, and what is known without them; what they compare scores with."""
    opened = Opened(tmp_path)
    limits = opened.device.memory[opened.region(Region.LIMITS) :][:8].view(np.float32)
    assert limits.tolist() == [0.25, 1.5]
    counted = np.ones(4, np.int64)
    opened.engine.counters(opened.session, counted)
    assert counted.tolist() == [0, 0, 0, 0]
    for position in (0, 4):
        opened.decode(7, position)
    region = opened.device.memory[opened.region(Region.COUNTS) :][: 6 * 8]
    region.view(np.int64)[:] = 1, 2, 1 << 40, 99, 4, 5
    opened.engine.counters(opened.session, counted)
    known = (8 + 2) + (5 * 8 + 3 * 2)
    assert counted.tolist() == [2, known + 10 * (4 + 5), 3 + (1 << 40), 0]
    with pytest.raises(SparsecompError, match="has not the counters that its manifest says"):
        opened.engine.counters(opened.session, np.zeros(5, np.int64))


def test_what_is_traced(tmp_path: Path) -> None:
    """The segments of a list, one behind the other."""
    opened = Opened(tmp_path)
    room = np.zeros(8, np.int32)
    opened.engine.trace(opened.session, room)
    there = opened.device.memory[opened.region(Region.ARENA) + 128 :][: 4 * 10].view(np.int32)
    there[:] = 1, 3, 2, -1, -1, -1, 4, 6, 7, -1
    opened.decode(7, 0)
    assert room.tolist() == [0, 4, 2, 4, 6, 7, 0, 0]
    opened.engine.trace(opened.session, None)
    there[0] = 0
    opened.decode(7, 1)
    assert room[1] == 4
    with pytest.raises(SparsecompError, match="has not the trace slots that its manifest says"):
        opened.engine.trace(opened.session, np.zeros(9, np.int32))
    with pytest.raises(SparsecompError, match="only a program for the CPU times its kernels"):
        opened.engine.profile(opened.session, np.zeros((1, 1), np.int64))


@pytest.mark.parametrize(
    ("arch", "code"),
    [(80, Code.SM_80), (89, Code.SM_80), (90, Code.SM_90), (100, Code.PTX), (120, Code.PTX)],
)
def test_the_code_for_a_gpu(arch: int, code: Code, tmp_path: Path) -> None:
    assert choose_code(TOY, NullDevice(tmp_path, arch=arch)) is code


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ({"arch": 75}, "its CUDA program is for sm_80 or newer, the GPU is sm_75"),
        (
            {"arch": 120, "driver": 12040},
            "the NVIDIA driver is too old: it has CUDA 12.4, the program's ptx code needs 12.8; "
            "update it",
        ),
        ({"size": 1024}, "out of memory on the GPU"),
    ],
)
def test_a_device_that_cannot(device: dict[str, int], expected: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        Opened(tmp_path, **device)
    assert str(caught.value).startswith(expected)


def test_a_kernel_that_was_changed(tmp_path: Path) -> None:
    changed = members() | {"cuda/sm_90/first.cubin": b"other"}
    with pytest.raises(SparsecompError, match=r"'cuda/sm_90/first\.cubin' is not the one"):
        load_kernels(TOY, NullDevice(tmp_path), changed.__getitem__)


def with_decode(*launches: object) -> LaunchProgram:
    return dataclasses.replace(TOY, decode=Steps(launches, always=0))  # type: ignore[arg-type]


def test_the_order_of_launches() -> None:
    check_order(TOY.decode)


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        (1, {"waits": ()}),  # reads the arena before it is written
        (3, {"waits": ()}),  # reads what the other stream may still write
        (2, {"arguments": (*DECODE[2].arguments[:2], DECODE[1].arguments[2])}),  # writes with it
        (2, {"arguments": (*DECODE[2].arguments[:2], DECODE[0].arguments[2])}),  # over its input
    ],
)
def test_a_broken_order(place: int, changes: dict[str, object]) -> None:
    broken = dataclasses.replace(DECODE[place], **changes)  # type: ignore[arg-type]
    program = with_decode(*DECODE[:place], broken, *DECODE[place + 1 :])
    with pytest.raises(AssertionError, match="launch"):
        check_order(program.decode)


def test_a_stream_outside_a_capture() -> None:
    with pytest.raises(AssertionError, match="outside the capture"):
        check_streams([Launched(None, (1, 1, 1), (), 1)])
