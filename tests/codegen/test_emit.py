"""What codegen writes for each kernel: kernels.golden holds both."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from sparsecomp.codegen.contexts import CONTEXTS
from sparsecomp.codegen.emit import emit
from sparsecomp.dialects import exec
from sparsecomp.opt import parse

TEXT = (Path(__file__).parent / "kernels.golden").read_text()
EXPECTED = "// => "


@pytest.fixture(scope="module")
def source() -> str:
    return emit(parse(TEXT), "every kernel")


def expected(program: str) -> list[str]:
    body = TEXT.partition(f"exec.program @{program} ")[2].partition("\n}\n")[0]
    lines = (line.strip() for line in body.splitlines())
    return [line.removeprefix(EXPECTED) for line in lines if line.startswith(EXPECTED)]


def written(source: str, program: str) -> list[str]:
    """The statements of a program, without what all begin with, modules' names and timing."""
    body = source.partition(f"void {program}(const Step& step, int worker) {{\n")[2]
    body = body.partition("\n}\n")[0].partition("\n\n    //")[2]
    lines = [line.removeprefix("    ") for line in body.splitlines()[1:]]
    return [line for line in lines if line and not line.startswith(("//", "lap("))]


@pytest.mark.parametrize("program", ("prefill", "decode"))
def test_statements(source: str, program: str) -> None:
    assert written(source, program) == expected(program)


def test_every_kernel_is_here() -> None:
    ops = {type(op) for program in parse(TEXT).ops for op in program.walk()}
    assert {*CONTEXTS, exec.Barrier, exec.LogitsOnly} <= ops


def test_it_is_valid_cpp(source: str, tmp_path: Path) -> None:
    file = tmp_path / "program.cpp"
    file.write_text(source)
    done = subprocess.run(
        ["c++", "-std=c++17", "-Wall", "-Wextra", "-fsyntax-only", str(file)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_sizes(source: str) -> None:
    """The larger of the two programs' arenas, in floats; the rows of a tile; the slots' shapes."""
    constants = dict(re.findall(r"constexpr \w+ ([A-Z_]+) = (\d+);", source))
    wanted = {
        "WORKERS": "2",
        "PROMPT_ROWS": "64",
        "SHARED": "96",
        "PRIVATE": "4096",
        "SLOTS": "2",
    }
    assert wanted.items() <= constants.items()
    assert "{1, 8, 8, 8}," in source and "{2, 8, 8, 0}," in source


def test_kernels_are_under_the_name_of_their_module() -> None:
    text = TEXT.replace("exec.ids %n {", 'exec.ids %n {module = "model.norm", ', 1)
    source = emit(parse(text), "x")
    before, _, after = source.partition("    // model.norm\n")
    assert "static_cast<float>(pos + i)" in after.splitlines()[0]
    assert before.count("// model.norm") == 0


def test_the_same_text_every_time(source: str) -> None:
    assert emit(parse(TEXT), "every kernel") == source
