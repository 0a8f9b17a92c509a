"""`sparsecomp opt` and `sparsecomp passes`."""

import io
import json
import sys
from pathlib import Path

import pytest
from cli_support import Command, FakeCompiler


def test_passes_run_in_order(sparsecomp: Command, compiler: FakeCompiler, tmp_path: Path) -> None:
    file = tmp_path / "in.mlir"
    file.write_text("builtin.module {}\n")
    result = sparsecomp("opt", file, "-p", "one,two", "-p", "three")
    assert result.out == "builtin.module {}\n// 3\n"
    assert compiler.optimised == [("builtin.module {}\n", ["one", "two", "three"])]


def test_reads_stdin(
    sparsecomp: Command, compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("// é\n".encode())))
    assert sparsecomp("opt").out == "// é\n"


def test_round_trip(sparsecomp: Command, compiler: FakeCompiler, tmp_path: Path) -> None:
    file = tmp_path / "in.mlir"
    file.write_text("a\nb\n")
    assert sparsecomp("opt", file, "-p", "x", "--verify-roundtrip").out == "a\nb\n// 1\n"
    assert compiler.optimised == [("a\nb\n", ["x"]), ("a\nb\n// 1\n", [])]


def test_round_trip_failure_names_the_line(
    sparsecomp: Command, compiler: FakeCompiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "in.mlir"
    file.write_text("a\nb\n")
    printed = iter(["a\nb\n", "a\nc\n"])
    module = sys.modules["sparsecomp.opt"]
    monkeypatch.setattr(module, "optimise", lambda *given: next(printed))
    result = sparsecomp("opt", file, "--verify-roundtrip")
    assert result.status == 1
    assert "line 2 was printed as 'b', then as 'c'" in result.error_line()


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "in.mlir: No such file or directory"),
        (b"a\xff", [], "not text (byte 1 is not UTF-8)"),
        (b"a", ["-p", "unknown"], "no pass is called unknown"),
    ],
)
def test_refusals(
    sparsecomp: Command,
    compiler: FakeCompiler,
    tmp_path: Path,
    content: bytes | None,
    arguments: list[str],
    message: str,
) -> None:
    file = tmp_path / "in.mlir"
    if content is not None:
        file.write_bytes(content)
    result = sparsecomp("opt", file, *arguments)
    assert result.status == 1
    assert message in result.error_line()


def test_passes_lists_stage_name_and_help(sparsecomp: Command, compiler: FakeCompiler) -> None:
    assert sparsecomp("passes").out.splitlines() == [
        "aten  fold         Folds.",
        "spz   raise-norms  Raises norms.",
    ]
    assert json.loads(sparsecomp("passes", "--json").out)[1] == {
        "stage": "spz",
        "name": "raise-norms",
        "help": "Raises norms.",
    }
