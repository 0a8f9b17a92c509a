"""The two ends of a pipe between the benchmark and one contender's process.

A contender runs in its own process, with its own packages and threads, and answers one request a
line, so that runs of several contenders alternate. Needs the standard library only, as the other
end may be another virtual environment.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self


class Engine(Protocol):
    """A loaded model with one sequence in flight."""

    def prefill(self, tokens: list[int]) -> int:
        """Starts the sequence anew with `tokens`; returns the most likely next token."""

    def decode(self, token: int) -> None:
        """Appends one token and computes the logits after it."""


@dataclass(frozen=True)
class Run:
    """One timed run: seconds for the prompt, seconds for all the decode steps after it."""

    prefill_s: float
    decode_s: float
    next_token: int


def serve(engine: Engine) -> None:
    """Answers requests on stdin until it closes."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print must not mix with the answers
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        next_token = engine.prefill(request["prompt"])
        prefilled = time.perf_counter()
        for token in request["continuation"]:
            engine.decode(token)
        run = Run(prefilled - started, time.perf_counter() - prefilled, next_token)
        print(json.dumps(asdict(run)), file=answers, flush=True)


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

    def run(self, prompt: list[int], continuation: list[int]) -> Run:
        """Prefills `prompt`, then decodes each token of `continuation`."""
        assert self._process.stdin is not None
        request = json.dumps({"prompt": prompt, "continuation": continuation})
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        return Run(**json.loads(self._answer()))

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"error: {self.name} stopped: {' '.join(self._command)}")
        return line


def script(name: str) -> str:
    """The path of a contender's script beside this one."""
    return str(Path(__file__).with_name(name))
