"""One artifact for several processors."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e_support import compile_dir, error, random_ids, reference_logits

import sparsecomp.runtime as rt
from sparsecomp.codegen import build
from sparsecomp.errors import SparsecompError
from sparsecomp.options import Target
from sparsecomp.runtime import cpu

needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed"
)
needs_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="not an x86-64 machine")

IDS = random_ids(40)


@needs_x86_64
def test_the_best_of_several_targets_is_loaded(
    model_dir_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_dir = model_dir_of("llama")
    expected = reference_logits(model_dir, IDS)
    targets = (Target.X86_64_V3, Target.X86_64_V4, Target.NATIVE)
    artifact = compile_dir(model_dir, tmp_path / "model.spz", targets=targets)
    here = cpu.this_cpu()
    with rt.load(artifact) as model:
        assert [program.target for program in model.manifest.programs] == list(targets)
        assert model.program.target == Target.NATIVE
        assert error(model.session().prefill(IDS), expected[-1]) < 1e-5
    if not here.flags.issuperset(build.V3_FLAGS):
        return
    # An older processor of the same kind.
    monkeypatch.setattr(cpu, "this_cpu", lambda: cpu.Cpu("x86_64", frozenset(build.V3_FLAGS)))
    with rt.load(artifact) as model:
        assert model.program.target == Target.X86_64_V3
        assert error(model.session().prefill(IDS), expected[-1]) < 1e-5


@needs_x86_64
@needs_zig
def test_a_program_for_another_machine_is_built_and_refused(
    model_dir_of: Callable[[str], Path], tmp_path: Path
) -> None:
    artifact = compile_dir(model_dir_of("llama"), tmp_path / "model.spz", targets=(Target.AARCH64,))
    with pytest.raises(SparsecompError, match=r"aarch64 is for aarch64\); compile it with") as why:
        rt.load(artifact)
    assert "\n" not in str(why.value)


@needs_zig
def test_clang_builds_the_same_program(
    model_dir_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "COMPILERS", ())  # then ziglang's clang is taken
    monkeypatch.delenv("CXX", raising=False)
    model_dir = model_dir_of("llama")
    expected = reference_logits(model_dir, IDS)
    artifact = compile_dir(model_dir, tmp_path / "model.spz")
    with rt.load(artifact) as model:
        assert error(model.session().prefill(IDS), expected[-1]) < 1e-5
