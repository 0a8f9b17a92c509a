"""The two ends of a pipe between the benchmark and one contender's process.

A contender runs in its own process, with its own packages and threads, and answers one request a
line, so that runs of several contenders alternate. Needs the standard library only, as the other
end may be another virtual environment.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self


class Engine(Protocol):
    """A loaded model with one sequence in flight."""

    def prefill(self, tokens: list[int]) -> int:
        """Starts the sequence anew with `tokens`; returns the most likely next token."""

    def decode(self, token: int) -> None:
        """Appends one token and computes the logits after it."""


@dataclass(frozen=True)
class Prefill:
    seconds: float
    next_token: int


def serve(engine: Engine) -> None:
    """Answers requests on stdin until it closes."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print must not mix with the answers
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        what, tokens = json.loads(line)
        began = time.perf_counter()
        next_token = None
        if what == "prefill":
            next_token = engine.prefill(tokens)
        else:
            for token in tokens:
                engine.decode(token)
        seconds = time.perf_counter() - began
        print(json.dumps([seconds, next_token]), file=answers, flush=True)


class Contender:
    """The benchmark's end: one contender's process, alive within a `with` block."""

    def __init__(self, name: str, command: list[str], weight_bytes: int) -> None:
        self.name = name
        self.weight_bytes = weight_bytes  # read by one decode step
        self._command = command

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def prefill(self, tokens: list[int]) -> Prefill:
        """Starts the sequence anew."""
        return Prefill(*self._ask("prefill", tokens))

    def decode(self, tokens: list[int]) -> float:
        """Appends tokens one by one; returns the seconds of all."""
        seconds, _ = self._ask("decode", tokens)
        return float(seconds)

    def _ask(self, what: str, tokens: list[int]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, tokens]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"error: {self.name} stopped: {' '.join(self._command)}")
        return line


def script(name: str) -> str:
    """The path of a contender's script beside this one."""
    return str(Path(__file__).with_name(name))
