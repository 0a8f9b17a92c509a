"""Split artifacts on GPUs, as far as that can be seen without one: each rank a thread, with a
device that runs its launches in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from families import make_model_dir
from gpu_devices import InterpretingDevice, check_order, uncompiled
from imposed import impose
from thread_ranks import ThreadRanks, on_ranks

import sparsecomp.runtime as rt
from sparsecomp.codegen.triton import program
from sparsecomp.codegen.triton.call import Kernel
from sparsecomp.compile import compile_model
from sparsecomp.errors import SparsecompError
from sparsecomp.options import CompileOptions, CudaTarget, Dtype, Target
from sparsecomp.runtime import cuda
from sparsecomp.runtime.artifact import launch_member
from sparsecomp.runtime.launch import LaunchProgram, parse_program
from sparsecomp.sparsify import Sparsified
from sparsecomp.sparsity import Cutoff, Exact, LowRank

T = TypeVar("T")
RANKS = 2
WIDTH = 48
"""Of a row, and as many neurons."""
IDS = [5, 7, 11, 300]
PROMPT = 2
MAX_ERROR = 1e-5
"""Relative to the largest logit: sums are made in another order."""


@pytest.fixture(scope="module")
def split(
    artifact_of: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[bytes, Kernel]]:
    """The tiny model split for GPUs, and its kernels."""
    model = artifact_of(1).parent / "model"
    return compiled(model, tmp_path_factory.mktemp("gpu") / "split.spz")


def compiled(
    model: Path, path: Path, *targets: Target, sparse: Sparsified | None = None
) -> tuple[Path, dict[bytes, Kernel]]:
    """An artifact for these targets and GPUs, and its kernels."""
    kernels: dict[bytes, Kernel] = {}
    options = CompileOptions(
        model_dir=model,
        output=path,
        dtype=Dtype.F32,
        targets=(*targets, CudaTarget.SM_90),
        workers=1,
        shards=RANKS,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "compile_kernel", uncompiled(kernels))
        compile_model(options, sparse=sparse)
    return path, kernels


def programs(path: Path) -> list[LaunchProgram]:
    with rt.Artifact.open(path) as artifact:
        members = [launch_member(rank) for rank in range(RANKS)]
        return [parse_program(artifact.read_bytes(name), name) for name in members]


def logits(model: rt.Model) -> npt.NDArray[np.float32]:
    with model.session() as session:
        rows = [session.prefill(IDS[:PROMPT])]
        rows += [session.decode(token) for token in IDS[PROMPT:]]
        return np.stack(rows)


def logits_of_few(model: rt.Model) -> npt.NDArray[np.float32]:
    """The same for a vocabulary of 64."""
    with model.session() as session:
        return np.stack([session.prefill([5, 7, 11]), session.decode(9), session.decode(12)])


def on_devices(
    split: tuple[Path, dict[bytes, Kernel]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[rt.Model], T],
    through_host: bool = True,
) -> list[T]:
    path, kernels = split
    devices: list[InterpretingDevice] = []
    for rank in range(RANKS):
        folder = tmp_path / str(rank)
        folder.mkdir()
        devices.append(InterpretingDevice(folder, kernels=kernels))
    monkeypatch.setattr(cuda, "open_device", lambda ordinal: devices[ordinal])

    def of(ranks: ThreadRanks) -> T:
        def add_up(address: int, count: int) -> None:
            at = devices[ranks.rank].memory[address : address + 4 * count]
            ranks.add_up(at.view(np.float32))

        if not through_host:
            ranks.add_up_on_gpu = add_up
        with rt.load(path, ranks=ranks) as model:
            return run(model)

    found = on_ranks(RANKS, of)
    assert all(not device.allocated for device in devices)
    return found


@pytest.mark.parametrize("through_host", [True, False])
def test_all_ranks_together_are_the_model(
    through_host: bool,
    artifact_of: Callable[[int], Path],
    split: tuple[Path, dict[bytes, Kernel]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with rt.load(artifact_of(1)) as model:
        expected = logits(model)
    found = on_devices(split, tmp_path, monkeypatch, logits, through_host)
    actual = np.concatenate(found, axis=1)
    assert np.abs(actual - expected).max() < MAX_ERROR * np.abs(expected).max()


@pytest.mark.parametrize("family", ["gpt_neox", "gemma2"])
def test_blocks_side_by_side_and_windows(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums that wait for nothing of each other; windows, and heads with keys on both ranks."""
    model, whole = make_model_dir(family, tmp_path / "model"), tmp_path / "whole.spz"
    compile_model(CompileOptions(model_dir=model, output=whole, dtype=Dtype.F32, workers=1))
    with rt.load(whole) as of_one:
        expected = logits_of_few(of_one)
    split = compiled(model, tmp_path / "split.spz")
    found = on_devices(split, tmp_path, monkeypatch, logits_of_few)
    actual = np.concatenate(found, axis=1)
    assert np.abs(actual - expected).max() < MAX_ERROR * np.abs(expected).max()


def test_each_rank_chooses_from_its_own_neurons(
    artifact_of: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CPUs: by their gates, and predicted a layer ahead."""
    predicted = LowRank(rank=4, threshold=0.0, density=0.5, active=0.5, lookahead=1)
    choices = {
        "model.layers.0.mlp": Cutoff(of=Exact.GATE, threshold=0.05, density=0.5),
        "model.layers.1.mlp": predicted,
    }
    model = artifact_of(1).parent / "model"
    sparse = impose(choices, WIDTH, WIDTH)
    path, kernels = compiled(model, tmp_path / "both.spz", Target.NATIVE, sparse=sparse)

    def run(model: rt.Model) -> tuple[npt.NDArray[np.float32], list[float]]:
        with model.session() as session:
            session.prefill(IDS[:PROMPT])
            rows = [session.decode(token) for token in IDS[PROMPT:]]
            return np.stack(rows), [block.density for block in session.stats().blocks]

    def on_cpu(ranks: ThreadRanks) -> tuple[npt.NDArray[np.float32], list[float]]:
        with rt.load(path, ranks=ranks, device="cpu") as model:
            return run(model)

    expected = on_ranks(RANKS, on_cpu)
    found = on_devices((path, kernels), tmp_path, monkeypatch, run)
    for (logits, densities), (wanted, of_cpu) in zip(found, expected, strict=True):
        assert np.abs(logits - wanted).max() < MAX_ERROR * np.abs(wanted).max()
        assert densities == of_cpu and all(0 < density < 1 for density in densities)


def test_what_an_exchange_raises_comes_out(
    split: tuple[Path, dict[bytes, Kernel]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(model: rt.Model) -> None:
        def fail(values: npt.NDArray[np.float32]) -> None:
            raise SparsecompError("the line is cut")

        model.ranks.add_up = fail  # type: ignore[union-attr, method-assign]
        with model.session() as session, pytest.raises(SparsecompError, match="the line is cut"):
            session.prefill(IDS)

    on_devices(split, tmp_path, monkeypatch, run)


def test_each_rank_holds_its_own_weights(split: tuple[Path, dict[bytes, Kernel]]) -> None:
    """And all add up the same vectors in the same order; the first alone has heads."""
    path, _ = split
    of_ranks = programs(path)
    with rt.Artifact.open(path) as artifact:
        total = artifact.manifest.weights_bytes
        embedding = artifact.tensors["model.embed_tokens.weight.rows"].size
    # What both have: the embedding, and the norms but for those before attentions.
    twice = embedding + 3 * WIDTH * 4
    assert sum(of.regions["weights"] for of in of_ranks) == total + twice
    for of in of_ranks:
        assert sum(piece.size for piece in of.weights) == of.regions["weights"]
        for steps in (of.prefill, of.decode):
            check_order(steps)
            assert steps.always == len(steps.launches)
    widths = [[found.width for found in of.decode.sums] for of in of_ranks]
    assert widths == [[WIDTH] * 4] * 2  # of two layers, twice each
    given = [[found.x is not None for found in of.decode.sums] for of in of_ranks]
    assert given == [[True] * 4, [False, True] * 2]
