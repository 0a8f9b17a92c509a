"""Native code runs when it was compiled here or is allowed, and fits the processor."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import os
import platform
from pathlib import Path

import pytest
from runtime_support import Toy, build_toy

import sparsecomp.runtime as rt
from sparsecomp.errors import SparsecompError
from sparsecomp.runtime import native, state
from sparsecomp.runtime.artifact import Machine, Program, Target, program_member
from sparsecomp.runtime.cpu import Cpu, choose_program, this_cpu

V4_FLAGS = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")


def program(target: Target, machine: Machine, *flags: str) -> Program:
    return Program(target, machine, flags, program_member(target), 2, 1)


V3 = program(Target.X86_64_V3, Machine.X86_64, "avx2", "fma")
V4 = program(Target.X86_64_V4, Machine.X86_64, "avx2", "fma", "avx512f")
ARM = program(Target.AARCH64, Machine.AARCH64, "asimd")


def test_unknown_code_is_refused_and_allowed_by_name(untrusted_toy: Toy) -> None:
    path = untrusted_toy.write(script=[3])
    with pytest.raises(SparsecompError) as caught:
        rt.load(path)
    assert str(caught.value) == (
        f"{path}: its native code 'native/native.so' was not compiled on this machine; "
        "if you trust where it comes from, pass allow_native=True (--allow-native)"
    )
    with rt.load(path, allow_native=True) as model:
        assert model.generate_ids([1], max_new_tokens=1) == [3]
    with pytest.raises(SparsecompError, match=r"not compiled on this machine"):
        rt.load(path)  # allowing once is not trusting for ever
    assert state.remember_compiled(hashlib.sha256(untrusted_toy.library).hexdigest())
    rt.load(path).close()


def test_the_state_directory_is_private(state_dir: Path) -> None:
    assert state.remember_compiled("a" * 64)
    assert state_dir.stat().st_mode & 0o777 == 0o700
    assert (state_dir / "compiled").stat().st_mode & 0o777 == 0o600
    assert state.was_compiled_here("a" * 64)
    assert not state.was_compiled_here("b" * 64)
    assert not state.was_compiled_here("a" * 63)


def test_where_the_state_directory_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    monkeypatch.setenv("SPARSECOMP_STATE_DIR", "/mine")
    assert state.state_dir() == Path("/mine")
    monkeypatch.delenv("SPARSECOMP_STATE_DIR")
    assert state.state_dir() == Path("/xdg/sparsecomp")
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", unset)
        assert state.state_dir() == Path("/home/someone/.local/state/sparsecomp")


def test_concurrent_writers_lose_nothing() -> None:
    hashes = [hashlib.sha256(bytes([i])).hexdigest() for i in range(200)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(state.remember_compiled, hashes))
    assert all(map(state.was_compiled_here, hashes))


def test_an_unusable_state_directory_is_the_reason_given(
    untrusted_toy: Toy, state_dir: Path
) -> None:
    state_dir.write_text("a file where the directory belongs")
    assert not state.remember_compiled("a" * 64)
    path = untrusted_toy.write()
    with pytest.raises(SparsecompError, match=r"as far as can be told \(.*state: File exists\)"):
        rt.load(path)
    rt.load(path, allow_native=True).close()


def test_a_state_directory_that_others_can_write_is_not_believed(toy: Toy, state_dir: Path) -> None:
    state_dir.chmod(0o777)
    with pytest.raises(SparsecompError, match=r"\(.*state: others can write to it\)"):
        rt.load(toy.write())


def test_nothing_of_the_code_is_left_on_disk(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_loaded", {})
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = toy.write()
    before = set(tmp_path.rglob("*"))
    rt.load(path).close()
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(native, "_loaded", {})
    rt.load(path).close()
    assert {p for p in tmp_path.rglob("*") if "state" not in p.parts} == {
        p for p in before if "state" not in p.parts
    }


def test_two_programs_at_once_and_one_after_the_other(untrusted_toy: Toy, tmp_path: Path) -> None:
    """The system's loader takes two libraries of one path for the same one."""
    other = build_toy(tmp_path / "other.so", "-DWITHOUT_DECODE")
    path = untrusted_toy.write()
    rt.load(path, allow_native=True).close()
    with pytest.raises(SparsecompError, match=r"has no function sc_decode"):
        rt.load(dataclasses.replace(untrusted_toy, library=other).write("b.spz"), allow_native=True)


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("-DABI=1", "it speaks ABI 1, this runtime speaks 5; compile it again"),
        ("-DWITHOUT_DECODE", "it has no function sc_decode; compile it again"),
    ],
)
def test_another_abi(untrusted_toy: Toy, tmp_path: Path, definition: str, expected: str) -> None:
    library = build_toy(tmp_path / "other.so", definition)
    path = dataclasses.replace(untrusted_toy, library=library).write()
    with pytest.raises(SparsecompError) as caught:
        rt.load(path, allow_native=True)
    assert str(caught.value) == f"{path}: native program 'native/native.so': {expected}"


def test_code_that_is_no_library(untrusted_toy: Toy) -> None:
    path = dataclasses.replace(untrusted_toy, library=b"no library").write()
    with pytest.raises(SparsecompError, match=r"'native/native.so': it cannot be loaded: "):
        rt.load(path, allow_native=True)


def test_the_best_program_is_chosen() -> None:
    modern = Cpu("x86_64", frozenset({"sse2", "avx2", "fma", "avx512f"}))
    assert choose_program([V3, V4, ARM], modern) is V4
    assert choose_program([V4, V3, ARM], Cpu("x86_64", frozenset({"avx2", "fma"}))) is V3
    assert choose_program([V3, V4, ARM], Cpu("aarch64", frozenset({"asimd", "fp"}))) is ARM
    assert this_cpu().machine == platform.machine() and len(this_cpu().flags) > 3


@pytest.mark.parametrize(
    ("cpu", "programs", "expected"),
    [
        (
            Cpu("x86_64", frozenset({"avx2", "fma", "bmi2", "f16c"})),
            [V4, ARM],
            "no native program for this x86_64 processor (x86-64-v4 needs avx512f; "
            "aarch64 is for aarch64); compile it with --target x86-64-v3",
        ),
        (Cpu("x86_64", frozenset(V4_FLAGS)), [ARM], "compile it with --target x86-64-v4"),
        (Cpu("x86_64", frozenset({"sse2"})), [V3], "compile it with --target native"),
        (Cpu("aarch64", frozenset()), [V3], "compile it with --target aarch64"),
        (Cpu("riscv64", frozenset()), [V3], "compile it with --target native"),
    ],
)
def test_no_program_fits(cpu: Cpu, programs: list[Program], expected: str) -> None:
    with pytest.raises(SparsecompError) as caught:
        choose_program(programs, cpu)
    assert str(caught.value).endswith(expected)


def test_an_artifact_for_another_machine(toy: Toy) -> None:
    other = Machine.AARCH64 if platform.machine() == "x86_64" else Machine.X86_64
    path = toy.write(programs=(program(Target.NATIVE, other),))
    with pytest.raises(SparsecompError, match=rf"toy.spz: no native program .* is for {other}"):
        rt.load(path)
