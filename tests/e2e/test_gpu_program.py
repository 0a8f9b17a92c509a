"""Whole programs for a GPU in Triton's interpreter: what is launched computes what the reference
does, whichever stream is faster."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from e2e_support import compile_dir, error, random_ids
from families import make_model_dir
from gpu_devices import InterpretingDevice, check_order, interpreted, uncompiled
from imposed import Masked, impose
from xdsl.dialects.builtin import ModuleOp

import sparsecomp.runtime as rt
from sparsecomp.codegen.storage import storage_bytes
from sparsecomp.codegen.triton import dense, parts, policy, program, sparse
from sparsecomp.codegen.triton.call import Kernel
from sparsecomp.dialects import exec
from sparsecomp.options import CudaTarget, Target
from sparsecomp.passes import select_kernels
from sparsecomp.passes.base import Weights
from sparsecomp.reference.exec import Stored
from sparsecomp.runtime import cuda
from sparsecomp.runtime.device import load_kernels
from sparsecomp.runtime.gpu import GpuProgram
from sparsecomp.runtime.launch import Code, Region, Steps
from sparsecomp.sparsity import LowRank

POSITIONS = 64
VOCABULARY = 64
HIDDEN, UNITS = 32, 48
TILE = 4
MAX_ERROR = 5e-5


class Opened:
    """A session of a module's launch program in the interpreter."""

    def __init__(
        self,
        module: ModuleOp,
        weights: Weights,
        folder: Path,
        *,
        capacity: int = POSITIONS,
        side_first: bool = False,
    ):
        built, kernels = interpreted(module, POSITIONS)
        (self.program,) = built.programs
        self.device = InterpretingDevice(folder, kernels=kernels, side_first=side_first)
        loaded = load_kernels(self.program, self.device, built.members.__getitem__)
        self.engine = GpuProgram(self.program, loaded, self.device)
        self.image = image(module, weights, self.program.regions[Region.WEIGHTS])
        self.session = self.engine.open_session(
            self.engine.open_model(self.image.ctypes.data), capacity
        )

    def prefill(self, ids: Sequence[int], position: int = 0) -> np.ndarray:
        logits = np.empty(VOCABULARY, np.float32)
        self.engine.prefill(self.session, np.array(ids, np.int32), position, logits)
        return logits

    def decode(self, token: int, position: int, full_logits: bool = False) -> np.ndarray:
        logits = np.empty(VOCABULARY, np.float32)
        self.engine.decode(self.session, token, position, logits, full_logits)
        return logits


def image(module: ModuleOp, weights: Weights, size: int) -> np.ndarray:
    """The weights as they lie in an artifact."""
    stored, found = Stored(module, weights, POSITIONS), np.zeros(size, np.uint8)
    for storage in module.ops:
        if isinstance(storage, exec.Storage):
            packed = storage_bytes(storage, functools.partial(stored._weight, storage))
            data = np.frombuffer(packed, np.uint8)
            found[storage.offset.value.data :][: len(data)] = data  # type: ignore[union-attr]
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes milliseconds for each program of a grid: few do all."""
    monkeypatch.setattr(select_kernels, "ROWS_PER_WORKER", TILE)
    monkeypatch.setattr(parts, "MAX_SPLITS", 3)
    for module in (dense, parts, policy, sparse):
        monkeypatch.setattr(module, "PROGRAMS", 4)


def test_an_artifact_on_a_gpu_and_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its prompt takes several tiles, and goes round the ring of its window."""
    kernels: dict[bytes, Kernel] = {}
    device = InterpretingDevice(tmp_path, arch=86, kernels=kernels)
    monkeypatch.setattr(program, "compile_kernel", uncompiled(kernels))
    monkeypatch.setattr(cuda, "open_device", lambda ordinal=0: device)
    path = make_model_dir("mistral", tmp_path / "model", num_hidden_layers=1)
    targets = (Target.NATIVE, CudaTarget.SM_80, CudaTarget.SM_90)
    artifact = compile_dir(path, tmp_path / "model.spz", targets=targets)
    ids = random_ids(9)
    with rt.load(artifact) as gpu, rt.load(artifact, device="cpu") as cpu:
        assert gpu.device == "a stand-in" and cpu.device == "cpu"
        facts = gpu.manifest.cuda
        assert facts is not None and facts.codes == (Code.SM_80, Code.SM_90, Code.PTX)
        assert gpu.manifest.model.rewind_limit == TILE + 1
        one, other = gpu.session(), cpu.session()
        for tokens in (ids[:3], ids[3:7]):
            assert error(one.prefill(tokens), other.prefill(tokens)) <= MAX_ERROR
        for token in ids[7:]:
            assert error(one.decode(token), other.decode(token)) <= MAX_ERROR
        assert device.replays == 2
        assert (one.stats().decoded, one.stats().kv_bytes) == (2, other.stats().kv_bytes)
        assert one.stats().weight_bytes == other.stats().weight_bytes


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Masked:
    """A model whose second MLP is predicted from the input of the first."""
    path = make_model_dir("opt", tmp_path_factory.mktemp("model") / "opt", ffn_dim=UNITS)
    ahead = LowRank(rank=6, threshold=0.0, density=0.5, active=0.25, lookahead=1)
    return Masked(path, impose({"model.decoder.layers.1": ahead}, HIDDEN, UNITS), POSITIONS)


def functions(steps: Steps) -> set[str]:
    """The names of what is launched, without their keys."""
    return {launch.kernel.rpartition("_")[0] for launch in steps.launches}


@pytest.mark.parametrize("side_first", [True, False])
def test_lookahead_on_two_streams(side_first: bool, predicted: Masked, tmp_path: Path) -> None:
    """Whichever stream is faster, the result is the same; the session is full at the end."""
    ids = random_ids(5)
    module = predicted.for_gpu()
    opened = Opened(module, predicted.weights, tmp_path, capacity=len(ids), side_first=side_first)
    waits = [launch.waits for launch in opened.program.decode.launches if launch.waits]
    assert opened.program.streams == 2 and len(waits) == 2
    assert "append" in functions(opened.program.prefill)
    assert "append" not in functions(opened.program.decode)
    check_order(opened.program.decode)
    check_order(opened.program.prefill)
    expected = predicted.logits(ids, 4).numpy()
    actual = [opened.prefill(ids[:4]), opened.decode(ids[4], 4)]
    assert error(np.stack(actual), expected) <= MAX_ERROR


@pytest.mark.parametrize(
    ("lookahead", "launched"),
    [
        (0, {("norm", "linear"), ("norm", "linear", "linear"), ("norm", "sparse_linear")}),
        (1, {("norm", "linear"), ("norm", "sparse_linear", "linear", "linear")}),
    ],
)
def test_queries_of_predicted_heads(
    lookahead: int, launched: set[tuple[str, ...]], tmp_path: Path
) -> None:
    """Heads predicted from the same row are predicted beside its keys and values; where they are
    known before, queries, keys and values are one launch."""
    path = make_model_dir("opt", tmp_path / "opt")
    heads = LowRank(rank=6, threshold=0.0, density=0.5, active=0.5, lookahead=lookahead)
    sparse = impose({"model.decoder.layers.1.self_attn": heads}, HIDDEN, 4, bias=(0, 1, -1, 0.5))
    masked = Masked(path, sparse, POSITIONS)
    module = masked.for_gpu()
    launches = [op for op in module.walk() if isinstance(op, exec.Launch)]
    normed = [op.kernels for op in launches if isinstance(op.kernels[0], exec.Norm)]
    names = {tuple(k.name.removeprefix("exec.") for k in kernels) for kernels in normed}
    assert names == launched | {("norm", "linear", "linear", "linear"), ("norm", "mlp")}
    ids = random_ids(3)
    opened = Opened(module, masked.weights, tmp_path, side_first=lookahead == 0)
    check_order(opened.program.decode)
    expected = masked.logits(ids, 2).numpy()
    actual = [opened.prefill(ids[:2]), opened.decode(ids[2], 2)]
    assert error(np.stack(actual), expected) <= MAX_ERROR
