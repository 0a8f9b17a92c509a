"""Writing an artifact: whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from runtime_support import toy_manifest, toy_members

from sparsecomp.codegen.pack import ArtifactWriter
from sparsecomp.errors import SparsecompError
from sparsecomp.runtime import artifact as layout
from sparsecomp.runtime.artifact import Artifact

MEMBERS = toy_members(b"code", None, [])


def write(path: Path) -> None:
    with ArtifactWriter(path) as writer:
        for name, data in MEMBERS:
            writer.add_bytes(name, data)
        writer.finish(toy_manifest())


@pytest.fixture
def older(tmp_path: Path) -> Path:
    path = tmp_path / "out.spz"
    path.write_bytes(b"older")
    return path


def untouched(path: Path) -> bool:
    """The older file is as it was and nothing lies beside it."""
    beside = [entry.name for entry in path.parent.iterdir() if entry.name != "state"]
    return path.read_bytes() == b"older" and beside == [path.name]


def test_replaces_an_older_file(older: Path) -> None:
    write(older)
    Artifact.open(older).close()
    assert list(older.parent.glob("*.spz*")) == [older]
    assert not list(older.parent.glob(".*"))


def test_a_symbolic_link_stays_one(older: Path) -> None:
    link = older.with_name("link.spz")
    link.symlink_to(older)
    write(link)
    assert link.is_symlink()
    Artifact.open(older).close()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing(older: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), ArtifactWriter(older) as writer:
        writer.add_bytes(layout.SOURCE, b"x")
        raise error
    assert untouched(older)


def test_not_finishing_leaves_nothing(older: Path) -> None:
    with ArtifactWriter(older) as writer:
        writer.add_bytes(layout.SOURCE, b"x")
    assert untouched(older)


def test_misuse(older: Path) -> None:
    def given_short() -> Iterator[bytes]:
        yield b"abc"

    with ArtifactWriter(older) as writer:
        writer.add_bytes(layout.SOURCE, b"x")
        for name in (layout.SOURCE, "../x"):
            with pytest.raises(ValueError, match=r"doubled, or no member"):
                writer.add_bytes(name, b"")
        with pytest.raises(ValueError, match=r"3 bytes were given, 4 were announced"):
            writer.add_stream(layout.WEIGHTS, 4, given_short())
        with pytest.raises(ValueError, match=r"members are missing: ir/aten.mlir"):
            writer.finish(toy_manifest())
        with pytest.raises(SparsecompError, match=r"context: is 0"):
            writer.finish(toy_manifest(context=0))
    assert untouched(older)


def test_disk_full(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write = os.write
    left = 1000

    def limited(fd: int, data: bytes) -> int:
        nonlocal left
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        size = real_write(fd, data[: min(left, 100)])
        left -= size
        return size

    monkeypatch.setattr(os, "write", limited)
    with pytest.raises(SparsecompError, match=r"out.spz: no space left in .* after \d+ bytes$"):
        write(older)
    monkeypatch.undo()
    assert untouched(older)


def test_too_little_space_is_told_before_starting(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=999))
    with (
        pytest.raises(SparsecompError, match=r"out.spz: needs 1000 bytes, .* 999 bytes free"),
        ArtifactWriter(older, expected_bytes=1000),
    ):
        raise AssertionError
    with ArtifactWriter(older, expected_bytes=999):
        pass
    assert untouched(older)


def test_a_destination_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SparsecompError, match=r"nowhere/out.spz: cannot be written: No such file"):
        write(tmp_path / "nowhere" / "out.spz")
    with pytest.raises(SparsecompError, match=r"is a directory"):
        write(tmp_path)


def test_two_writers_of_one_file(older: Path) -> None:
    with (
        ArtifactWriter(older),
        pytest.raises(SparsecompError, match=r"out.spz: is being written by another compile"),
    ):
        write(older)
    assert untouched(older)


def test_what_a_killed_writer_left_is_taken_over(older: Path) -> None:
    older.with_name(".out.spz.partial").write_bytes(b"x" * 100_000)
    write(older)
    Artifact.open(older).close()
    assert not list(older.parent.glob(".*"))


def test_sigterm_removes_what_is_half_written(older: Path) -> None:
    code = (
        "import sys, time\n"
        "from sparsecomp.codegen.pack import ArtifactWriter\n"
        "with ArtifactWriter(sys.argv[1]) as writer:\n"
        "    writer.add_bytes('native/program.cpp', b'x')\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(older)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert older.with_name(".out.spz.partial").exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert untouched(older)


def test_the_terminate_handler_is_put_back(older: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        write(older)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_stream_is_written_as_it_comes(older: Path) -> None:
    sizes = []

    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            sizes.append(older.with_name(".out.spz.partial").stat().st_size)
            yield bytes(1 << 20)

    with ArtifactWriter(older) as writer:
        writer.add_stream(layout.WEIGHTS, 3 << 20, chunks())
    assert sizes[1] - sizes[0] == sizes[2] - sizes[1] == 1 << 20
    assert time.time() - older.stat().st_mtime < 3600 and untouched(older)
