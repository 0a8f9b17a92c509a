"""Launch programs on the GPU, as the runtime runs them, with weights put there from a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gpu_models import Made
from sparsecomp.runtime import launch
from sparsecomp.runtime.artifact import BlockKind, launch_member
from sparsecomp.runtime.cuda import CudaDevice, open_device
from sparsecomp.runtime.device import load_kernels
from sparsecomp.runtime.gpu import GpuProgram, region_bytes
from sparsecomp.runtime.launch import Region

TOKEN = 7


class TorchMemory(CudaDevice):
    """A GPU whose memory torch allocates, so that torch can fill it; `graph` is the latest."""

    def __init__(self) -> None:
        open_device()  # says what is missing, if anything is
        from cuda.bindings import driver

        super().__init__(driver, driver.cuDeviceGet(0)[1])
        self.memory: dict[int, torch.Tensor] = {}
        self.graph: Any = None

    def allocate(self, size: int) -> int:
        tensor = torch.zeros(max(size, 2), dtype=torch.uint8, device="cuda")
        torch.cuda.synchronize()
        self.memory[tensor.data_ptr()] = tensor
        return tensor.data_ptr()

    def free(self, address: int) -> None:
        torch.cuda.synchronize()
        del self.memory[address]

    def end_capture(self) -> Any:
        self.graph = super().end_capture()
        return self.graph


class OnGpu:
    """A program with its weights on the GPU, and one session of it."""

    def __init__(self, made: Made) -> None:
        self.made = made
        self.program = launch.parse_program(made.members[launch_member()], launch_member())
        self.device = TorchMemory()
        self.weights = self.device.allocate(self.program.regions[Region.WEIGHTS])
        self._fill(self.device.memory[self.weights])
        kernels = load_kernels(self.program, self.device, made.members.__getitem__)
        self.engine = GpuProgram(self.program, kernels, self.device)
        self.session = self._open()
        self.logits = np.zeros(self.program.regions[Region.LOGITS] // 4, np.float32)

    def _fill(self, region: torch.Tensor) -> None:
        file = torch.from_numpy(np.fromfile(self.made.weights, np.uint8)).cuda()
        for place in self.made.placements:
            piece = file[place.start : place.start + place.size]
            region[place.offset : place.offset + place.size].copy_(piece)
        torch.cuda.synchronize()

    def _open(self) -> int:
        """A session; keys and values are random, as if a text had gone before."""
        session = self.engine.open_session(self.weights, self.program.positions)
        memory = self.device.memory[session]
        start = region_bytes(self.program.regions[Region.ARENA])
        size = region_bytes(self.program.regions[Region.CACHE])
        memory[start : start + size].view(torch.bfloat16).normal_()
        torch.cuda.synchronize()
        return session

    def at(self, context: int) -> tuple[Callable[[], None], Callable[[], None]]:
        """What replays a decode at position `context` - 1, and what decodes a token there as a
        caller does: its token in, its logits out."""

        def token() -> None:
            self.engine.decode(self.session, TOKEN, context - 1, self.logits, False)

        token()
        return lambda: self.device.replay(self.device.graph), token

    def chosen(self, context: int) -> dict[BlockKind, float]:
        """The mean share of units that the blocks of a kind chose, counted at this context."""
        before = self._counters()
        self.engine.decode(self.session, TOKEN, context - 1, self.logits, False)
        counted = self._counters() - before
        found: dict[BlockKind, list[float]] = {}
        for block in self.made.blocks:
            share = int(counted[block.chosen_counter]) / block.units
            found.setdefault(block.kind, []).append(share)
        return {kind: sum(shares) / len(shares) for kind, shares in found.items()}

    def _counters(self) -> npt.NDArray[np.int64]:
        counted = np.zeros(self.program.counters, np.int64)
        self.engine.counters(self.session, counted)
        return counted

    def bytes(self, context: int) -> int:
        """What a step reads by the imposed shares: heads that are skipped read no keys."""
        heads = self.made.build.heads
        kv = self.program.kv_bytes(context - 1)
        return self.made.weight_bytes + round(kv * (1.0 if heads is None else heads))

    def close(self) -> None:
        self.engine.close_session(self.session)
        self.device.free(self.weights)
