"""Exit statuses, the one error line, and what start-up imports."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import Command, FakeCompiler

HEAVY = {"torch", "xdsl", "transformers", "numpy", "tokenizers", "rich", "jinja2", "safetensors"}


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stderr.split())


def test_importing_the_package_imports_only_the_package() -> None:
    assert not modules_after("import sparsecomp") & (HEAVY | {"click"})


@pytest.mark.parametrize("verb", ["", "compile", "run", "eval", "inspect", "opt", "passes"])
def test_help_imports_nothing_heavy(verb: str) -> None:
    code = f"from sparsecomp import cli; cli._run({[*verb.split(), '--help']})"
    assert not modules_after(code) & HEAVY


def test_no_verb_prints_help(sparsecomp: Command) -> None:
    result = sparsecomp()
    assert result.status == 0
    assert all(
        verb in result.out for verb in ("compile", "run", "eval", "inspect", "opt", "passes")
    )


def test_version(sparsecomp: Command) -> None:
    import sparsecomp as package

    assert sparsecomp("--version").out == f"sparsecomp {package.__version__}\n"


def test_package_has_no_other_attribute() -> None:
    import sparsecomp as package

    with pytest.raises(AttributeError, match="no attribute 'compiler'"):
        package.compiler  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compil"], "No such command 'compil'"),
        (["compile"], "Missing argument 'MODEL_DIR'"),
        (["compile", "m", "--dtype", "f16"], "'f16' is not one of 'f32', 'bf16'"),
        (["compile", "m", "--workers", "two"], "'two' is not a valid integer"),
        (["run", "a.spz"], "Missing option '-p'"),
        (["inspect", "a.spz", "--json", "--source"], "choose one of"),
    ],
)
def test_wrong_usage_is_one_line(sparsecomp: Command, arguments: list[str], message: str) -> None:
    result = sparsecomp(*arguments)
    assert result.status == 2
    assert message in result.error_line()
    assert "--help" in result.error_line()


def test_interrupt(sparsecomp: Command, compiler: FakeCompiler, model_dir: Path) -> None:
    compiler.failure = KeyboardInterrupt()
    result = sparsecomp("compile", model_dir, "-o", model_dir / "x.spz")
    assert result.status == 130
    assert result.err.splitlines()[-1] == "error: interrupted"


def test_a_bug_keeps_its_traceback(compiler: FakeCompiler, model_dir: Path) -> None:
    from sparsecomp import cli

    compiler.failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        cli.main(["compile", str(model_dir), "-o", str(model_dir / "x.spz")])


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ModuleNotFoundError(name="torch.export"), "pip install 'sparsecomp[compile]'"),
        (OSError(28, "No space left on device", "out.spz"), "out.spz: No space left on device"),
    ],
)
def test_surroundings_fail_in_one_line(
    sparsecomp: Command,
    compiler: FakeCompiler,
    model_dir: Path,
    failure: Exception,
    message: str,
) -> None:
    compiler.failure = failure
    result = sparsecomp("compile", model_dir, "-o", model_dir / "x.spz")
    assert result.status == 1
    assert message in result.err.splitlines()[-1]
    assert "Traceback" not in result.err


def test_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    run = subprocess.run(
        [sys.executable, "-m", "sparsecomp", "--help"], stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert run.stderr == b""


def test_termination_unwinds() -> None:
    code = (
        "import os, signal, sys\n"
        "from sparsecomp import cli\n"
        "def work(arguments):\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    finally: print('cleaned up')\n"
        "cli._dispatch = work\n"
        "cli.main([])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (128 + signal.SIGTERM, "cleaned up\n")
