"""An artifact with a program for a GPU: which program is loaded, and what is said when none is."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from gpu_devices import NullDevice
from launch_support import CODES, PROGRAM, TOY, members
from runtime_support import (
    CONTEXT,
    VOCAB,
    Toy,
    forge,
    forged_members,
    toy_manifest,
    toy_members,
)

import sparsecomp.runtime as rt
from sparsecomp.errors import SparsecompError
from sparsecomp.runtime import cuda, state
from sparsecomp.runtime.artifact import Artifact, CudaProgram, Stage, ir_member
from sparsecomp.runtime.device import DeviceError
from sparsecomp.runtime.launch import LAUNCH_VERSION, Piece, Region, encode_program

FACTS = CudaProgram(tuple(CODES), LAUNCH_VERSION)
NO_CPU = "compile it with --target native too, to run on the CPU"


def write(
    path: Path,
    library: bytes | None,
    cuda_members: Mapping[str, bytes] | None = None,
) -> Path:
    """A toy with a program for GPUs, and one for this CPU where a library is given."""
    native = [
        (name, data)
        for name, data in toy_members(library or b"", None, [3, 4])
        if library is not None or name not in ("native/native.so", "native/program.cpp")
    ]
    gpu = members() if cuda_members is None else dict(cuda_members)
    named = [*native, (ir_member(Stage.EXEC_CUDA), b"// exec.cuda\n"), *gpu.items()]
    programs = {} if library is not None else {"programs": ()}
    manifest = toy_manifest(cuda=FACTS, **programs)
    path.write_bytes(forge(forged_members(named, manifest)))
    return path


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NullDevice:
    """This machine has a GPU, or so it seems."""
    device = NullDevice(tmp_path)
    monkeypatch.setattr(cuda, "open_device", lambda ordinal: device)
    return device


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(ordinal: int) -> NullDevice:
        raise DeviceError("there is no GPU")

    monkeypatch.setattr(cuda, "open_device", refuse)


@pytest.fixture
def both(toy: Toy) -> Path:
    assert state.remember_compiled(hashlib.sha256(encode_program(TOY, PROGRAM)).hexdigest())
    return write(toy.directory / "both.spz", toy.library)


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(SparsecompError) as caught:
        rt.load(path, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_a_gpu_is_used_where_there_is_one(both: Path, gpu: NullDevice) -> None:
    with rt.load(both) as model, model.session() as session:
        assert model.device == "a stand-in" and len(gpu.allocated) == 2
        session.prefill([1, 2])
        assert np.isnan(session.decode(3)).sum() == VOCAB and gpu.replays == 1
        with pytest.raises(SparsecompError, match="only a program for the CPU times"):
            session.profile()
    assert not gpu.allocated
    with rt.load(both, device="cpu") as model:
        assert model.device == "cpu" and model.generate_ids([1], max_new_tokens=1) == [3]


@pytest.mark.usefixtures("no_gpu")
def test_the_cpu_is_used_where_there_is_no_gpu(both: Path) -> None:
    with rt.load(both) as model:
        assert model.device == "cpu" and model.generate_ids([1], max_new_tokens=1) == [3]
    assert refusal(both, device="cuda") == (
        "there is no GPU; load it with device='cpu' (--device cpu)"
    )


@pytest.mark.usefixtures("no_gpu")
def test_an_artifact_for_gpus_alone(toy: Toy) -> None:
    path = write(toy.directory / "gpu.spz", None)
    assert refusal(path) == f"there is no GPU; {NO_CPU}"
    assert refusal(path, device="cpu") == (
        "has no program for a CPU; compile it with --target native too"
    )
    with Artifact.open(path) as artifact:
        assert ir_member(Stage.EXEC_CUDA) in artifact.member_names


def test_an_artifact_for_cpus_alone(toy: Toy, gpu: NullDevice) -> None:
    path = toy.write(script=[3])
    assert "compile it with --target cuda:sm_90 too" in refusal(path, device="cuda")
    with rt.load(path) as model:
        assert model.device == "cpu" and not gpu.allocated
    with pytest.raises(SparsecompError, match="device 'gpu': must be one of auto, cpu, cuda"):
        rt.load(path, device="gpu")


def test_memory_that_is_short(both: Path, gpu: NullDevice) -> None:
    with rt.load(both) as model:
        gpu.size = gpu.top
        with pytest.raises(SparsecompError) as caught:
            model.session()
        assert "out of memory on the GPU" in str(caught.value)
        assert f"for a session of {CONTEXT} positions; give a smaller cap" in str(caught.value)
        assert str(caught.value).endswith("load it with device='cpu' (--device cpu)")
    assert "out of memory on the GPU" in refusal(both)


@pytest.mark.usefixtures("gpu")
def test_kernels_need_trust(untrusted_toy: Toy) -> None:
    path = write(untrusted_toy.directory / "both.spz", untrusted_toy.library)
    assert "'cuda/program.json' was not compiled on this machine" in refusal(path)
    rt.load(path, allow_native=True).close()


@pytest.mark.usefixtures("gpu")
def test_members_that_are_not_sound(toy: Toy) -> None:
    path, sound = toy.directory / "bad.spz", members()
    write(path, None, sound | {PROGRAM: sound[PROGRAM][:-9]})
    assert refusal(path, allow_native=True).startswith("member 'cuda/program.json': is not valid")
    write(path, None, sound | {"cuda/sm_90/second.cubin": b"other"})
    assert "second.cubin' is not the one that the program" in refusal(path, allow_native=True)
    write(path, None, {name: data for name, data in sound.items() if "first.cubin" not in name})
    assert "has no member 'cuda/sm_90/first.cubin'" in refusal(path, allow_native=True)
    size = CONTEXT * 4 + 1
    larger = dataclasses.replace(
        TOY,
        regions=TOY.regions | {Region.WEIGHTS: size},  # type: ignore[operator]
        weights=(Piece(0, 0, size),),
    )
    write(path, None, members(larger))
    assert "reads beyond the weights" in refusal(path, allow_native=True)


def test_members_that_the_manifest_does_not_have(toy: Toy) -> None:
    path, sound = toy.directory / "bad.spz", members()
    write(path, None, sound | {"cuda/sm_100/first.cubin": b"code"})
    assert "'cuda/sm_100/first.cubin' and the manifest's programs do not agree" in refusal(path)
    write(path, None, {name: data for name, data in sound.items() if name != PROGRAM})
    assert "'cuda/program.json' and the manifest's programs do not agree" in refusal(path)


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = pytest.importorskip("cuda.bindings.driver")

    def missing(flags: int) -> None:
        raise RuntimeError("several\nlines")

    monkeypatch.setattr(driver, "cuInit", missing)
    with pytest.raises(DeviceError, match=r"^the NVIDIA driver's library \(libcuda\) is not inst"):
        cuda.open_device()
    no_device = driver.CUresult.CUDA_ERROR_NO_DEVICE
    monkeypatch.setattr(driver, "cuInit", lambda flags: (no_device,))
    with pytest.raises(DeviceError, match=r"^there is no GPU .*CUDA_ERROR_NO_DEVICE"):
        cuda.open_device()
