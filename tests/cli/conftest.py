"""The command line with a stand-in for the compiler, so that these tests import nothing heavy."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from cli_support import Command, FakeCompiler, Result

from sparsecomp import cli


@pytest.fixture
def sparsecomp(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command with the given arguments."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        status = exit_.value.code
        assert isinstance(status, int)
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    fake = FakeCompiler()
    for path, names in (("compile", ["compile_model"]), ("opt", ["optimise", "list_passes"])):
        module = ModuleType(f"sparsecomp.{path}")
        for name in names:
            setattr(module, name, getattr(fake, name))
        monkeypatch.setitem(sys.modules, f"sparsecomp.{path}", module)
    return fake


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder
