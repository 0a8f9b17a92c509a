"""`sparsecomp compile`: its options, its checks, where its output goes."""

import os
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from cli_support import Command, FakeCompiler

from sparsecomp.errors import SparsecompError
from sparsecomp.options import (
    CompileOptions,
    CudaTarget,
    Dtype,
    SparsityOptions,
    Target,
    usable_cpus,
)


def test_defaults(
    sparsecomp: Command,
    compiler: FakeCompiler,
    model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(model_dir.parent)
    assert sparsecomp("compile", "tiny").status == 0
    assert compiler.options == CompileOptions(model_dir=Path("tiny"), output=Path("tiny.spz"))
    assert compiler.options.dtype is Dtype.BF16
    assert compiler.options.targets == (Target.NATIVE,)
    assert compiler.options.workers == usable_cpus() == len(os.sched_getaffinity(0))
    assert compiler.options.context is None


def test_every_option(sparsecomp: Command, compiler: FakeCompiler, model_dir: Path) -> None:
    output = model_dir.parent / "out.spz"
    arguments = ["compile", model_dir, "-o", output, "--dtype", "f32", "--sparsity", "off"]
    arguments += ["--target", "x86-64-v3", "--target", "aarch64", "--target", "cuda:sm_90"]
    arguments += ["--workers", 3, "--context", 77]
    arguments += ["--print-ir-before", "a", "--print-ir-before", "b", "--print-ir-after", "c"]
    arguments += ["--dump-dir", model_dir.parent / "dump", "--time-passes"]
    assert sparsecomp(*arguments).status == 0
    assert compiler.options == CompileOptions(
        model_dir=model_dir,
        output=output,
        dtype=Dtype.F32,
        sparsity=None,
        targets=(Target.X86_64_V3, Target.AARCH64, CudaTarget.SM_90),
        workers=3,
        context=77,
        print_ir_before=("a", "b"),
        print_ir_after=("c",),
        dump_dir=model_dir.parent / "dump",
        time_passes=True,
    )


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], None),
        (["--sparsity", "off"], None),
        (["--sparsity", "auto"], SparsityOptions()),
        (["--max-ppl-increase", "0.5%"], SparsityOptions(max_ppl_increase=0.005)),
        (["--max-ppl-increase", "0.02"], SparsityOptions(max_ppl_increase=0.02)),
        (["--density", "20%", "--seed", "3"], SparsityOptions(density=0.2, seed=3)),
        (["--lookahead", "1"], SparsityOptions(lookahead=1)),
        (["--calibration", "."], SparsityOptions(calibration=(Path("."),))),
        (["--calibration-dir", "cache"], SparsityOptions(calibration_dir=Path("cache"))),
    ],
)
def test_sparsity(
    sparsecomp: Command,
    compiler: FakeCompiler,
    model_dir: Path,
    arguments: list[str],
    options: SparsityOptions | None,
) -> None:
    result = sparsecomp("compile", model_dir, "-o", model_dir / "x.spz", *arguments)
    assert result.status == 0
    assert compiler.options is not None and compiler.options.sparsity == options
    assert "a note" in result.err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["--sparsity", "off", "--density", "0.2"],
            2,
            "off leaves nothing for --density to decide",
        ),
        (["--max-ppl-increase", "one"], 2, "'one' is no share; write 1% or 0.01"),
        (["--max-ppl-increase", "1"], 1, "--max-ppl-increase is 1; it must be above 0 and below"),
        (["--max-ppl-increase", "0"], 1, "--max-ppl-increase is 0; it must be above 0"),
        (["--density", "0"], 1, "--density is 0; it must be above 0 and at most 1"),
        (["--density", "1.5"], 1, "--density is 1.5; it must be"),
        (["--lookahead", "3"], 2, "3 is not in the range"),
        (["--seed", "-1"], 1, "--seed is -1; it must be 0 or more"),
        (["--recipe", "nowhere.yaml"], 1, "recipe nowhere.yaml is not a file"),
        (["--calibration", "nowhere.txt"], 1, "calibration text nowhere.txt does not exist"),
    ],
)
def test_sparsity_refusals(
    sparsecomp: Command,
    compiler: FakeCompiler,
    model_dir: Path,
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    result = sparsecomp("compile", model_dir, "-o", model_dir / "x.spz", *arguments)
    assert result.status == status
    assert message in result.err
    assert compiler.options is None


def test_ir_on_stdout_the_rest_on_stderr(
    sparsecomp: Command, compiler: FakeCompiler, model_dir: Path
) -> None:
    output = model_dir / "out.spz"
    result = sparsecomp(
        "compile", model_dir, "-o", output, "--print-ir-before", "dce", "--time-passes"
    )
    assert result.out == "// IR before dce\nbuiltin.module {}\n"
    lines = result.err.splitlines()
    assert lines[0] == "frontend: tiny"
    assert lines[1:4] == ["    0.250 s  first", "    0.500 s  second", "    0.750 s  all passes"]
    assert lines[4] == "a note"
    assert lines[5].startswith(f"{output}: 0.0 MB in ")


def test_stop_after_prints_ir_and_writes_nothing(
    sparsecomp: Command, compiler: FakeCompiler, model_dir: Path
) -> None:
    output = model_dir / "out.spz"
    result = sparsecomp("compile", model_dir, "-o", output, "--stop-after", "first")
    assert result.status == 0
    assert result.out == "func.func @decode\n"
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "model directory missing does not exist"),
        (["tiny/config.json"], "tiny/config.json is a file"),
        (["empty"], "empty has no config.json"),
        (["tiny", "-o", "empty"], "output empty is a directory"),
        (["tiny", "-o", "nowhere/x.spz"], "output directory nowhere does not exist"),
        (["tiny", "--workers", "0"], "workers is 0; it must be between 1 and 1024"),
        (["tiny", "--workers", "1025"], "workers is 1025"),
        (["tiny", "--context", "0"], "context is 0; it must be at least 1 position"),
        (["tiny", "--target", "native", "--target", "native"], "a target is given twice"),
        (["tiny", "--dump-dir", "tiny/config.json"], "is not a directory"),
    ],
)
def test_refusals(
    sparsecomp: Command,
    compiler: FakeCompiler,
    model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    (model_dir.parent / "empty").mkdir()
    monkeypatch.chdir(model_dir.parent)
    result = sparsecomp("compile", *arguments)
    assert result.status == 1
    assert message in result.error_line()
    assert compiler.options is None


def test_options_are_frozen_and_need_a_target(model_dir: Path) -> None:
    options = CompileOptions(model_dir=model_dir, output=model_dir / "x.spz")
    with pytest.raises(FrozenInstanceError):
        options.workers = 2  # type: ignore[misc]
    with pytest.raises(SparsecompError, match="no target given"):
        CompileOptions(model_dir=model_dir, output=model_dir / "x.spz", targets=())


def test_compiler_from_the_environment(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cxx() -> tuple[str, ...]:
        return CompileOptions(model_dir=model_dir, output=model_dir / "x.spz").cxx

    monkeypatch.delenv("CXX", raising=False)
    assert cxx() == ()
    monkeypatch.setenv("CXX", "ccache 'my g++'")
    assert cxx() == ("ccache", "my g++")
    monkeypatch.setenv("CXX", "'g++")
    with pytest.raises(SparsecompError, match="CXX is not a command"):
        cxx()
