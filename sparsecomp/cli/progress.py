"""Shows a compile as it goes: live on a terminal, one line a stage elsewhere."""

import sys
from types import TracebackType
from typing import Protocol, Self

from sparsecomp.observer import Observer, When


class Display(Observer, Protocol):
    """An observer that owns the screen between `with` and its end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def display() -> Display:
    """The display that suits stderr."""
    return LiveDisplay() if sys.stderr.isatty() else LineDisplay()


def print_ir(text: str, pass_name: str, when: When) -> None:
    """IR on stdout; its heading is a comment, so that the whole still parses."""
    print(f"// IR {when} {pass_name}\n{text.rstrip()}", flush=True)


class LineDisplay:
    """One line on stderr for each stage."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def stage(self, name: str, detail: str = "") -> None:
        print(f"{name}: {detail}" if detail else name, file=sys.stderr, flush=True)

    def progress(self, done: int, total: int) -> None:
        pass

    def ir(self, text: str, pass_name: str, when: When) -> None:
        print_ir(text, pass_name, when)


class LiveDisplay:
    """A row for each stage on stderr, the running one with a bar and a clock."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._rows = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", style="dim"),
            console=Console(stderr=True),
            # Redirected, IR meant for stdout would land on stderr.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._rows.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish_row()
        self._rows.stop()

    def stage(self, name: str, detail: str = "") -> None:
        self._finish_row()
        self._rows.add_task(name, total=None, detail=detail)

    def progress(self, done: int, total: int) -> None:
        self._rows.update(self._rows.task_ids[-1], completed=done, total=total)

    def ir(self, text: str, pass_name: str, when: When) -> None:
        self._rows.stop()
        print_ir(text, pass_name, when)
        self._rows.start()

    def _finish_row(self) -> None:
        if self._rows.task_ids:
            self._rows.update(self._rows.task_ids[-1], completed=1, total=1)
