"""lit's format for golden files: `// RUN: sparsecomp-opt %s -p pass-name | filecheck %s`.

A line is `[not] TOOL ARGUMENT... [2>&1] | filecheck ARGUMENT...`. Both run within the process of
lit: a pass takes milliseconds, but importing torch for it two seconds.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Sequence
from unittest import mock

from lit.formats.base import FileBasedTest
from lit.LitConfig import LitConfig
from lit.ShUtil import ShParser
from lit.Test import FAIL, PASS, Result, Test
from lit.TestRunner import (
    applySubstitutions,
    getDefaultSubstitutions,
    getTempPaths,
    kPdbgRegex,
    parseIntegratedTestScript,
)


class GoldenTest(FileBasedTest):
    """A file passes when every line's tool ends as expected and filecheck accepts its output."""

    def execute(self, test: Test, lit_config: LitConfig) -> Result:
        script = parseIntegratedTestScript(test)
        if isinstance(script, Result):
            return script
        for line in applySubstitutions(script, getDefaultSubstitutions(test, *getTempPaths(test))):
            command = re.fullmatch(kPdbgRegex, line)[2]
            if problem := _problem(command):
                return Result(FAIL, f"{command}\n{problem}")
        return Result(PASS)


def _problem(command: str) -> str | None:
    """What is wrong with the output of a command line, if anything is."""
    producer, checker = ShParser(command, pipefail=True).parse().commands
    fails = producer.args[0] == "not"
    tool, *arguments = producer.args[fails:]
    status, output, errors = _run(_TOOLS[tool], arguments)
    if (status != 0) != fails:
        return f"exit status {status}\n{output}{errors}"
    checked = output + errors if producer.redirects else output
    assert checker.args[0] == "filecheck"
    with mock.patch.object(sys, "stdin", io.StringIO(checked)):
        status, _, complaint = _run(_filecheck, checker.args[1:])
    return complaint if status else None


def _run(tool: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a tool."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            tool(arguments)
            status = 0
        except SystemExit as end:
            status = end.code or 0
    return status, output.getvalue(), errors.getvalue()


def _opt(arguments: Sequence[str]) -> None:
    from sparsecomp.cli import main

    main(["opt", *arguments])


def _print_spz(arguments: Sequence[str]) -> None:
    from print_spz import main

    main(*arguments)


def _filecheck(arguments: Sequence[str]) -> None:
    from filecheck.main import main

    main(["filecheck", *arguments])


_TOOLS = {"sparsecomp-opt": _opt, "print-spz": _print_spz}
