"""The live display keeps IR on stdout and draws on stderr."""

import pytest

from sparsecomp.cli.progress import LineDisplay, LiveDisplay, display


def test_live_display_parts_streams(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveDisplay() as live:
        live.stage("frontend", "tiny")
        live.progress(3, 4)
        live.ir("builtin.module {}", "dce", "after")
        live.stage("codegen")
    captured = capsys.readouterr()
    assert captured.out == "// IR after dce\nbuiltin.module {}\n"
    assert "frontend" in captured.err and "tiny" in captured.err and "codegen" in captured.err


def test_live_display_ends_on_an_error() -> None:
    live = LiveDisplay()
    with pytest.raises(RuntimeError), live:
        live.stage("frontend")
        raise RuntimeError
    assert not live._rows.live.is_started
    assert not live._rows.tasks[0].finished


def test_lines_when_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with display() as observer:
        assert isinstance(observer, LineDisplay)
        observer.stage("frontend")
        observer.progress(1, 1)
        observer.stage("codegen", "native")
    assert capsys.readouterr().err == "frontend\ncodegen: native\n"
