"""The `sparsecomp` command: one line for a user's mistake, a traceback only for a bug.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated.
Results go to stdout, everything else to stderr.
"""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from sparsecomp.errors import SparsecompError

FAILED, USAGE, INTERRUPTED = 1, 2, 130

# Which extra brings a package that a verb imports.
_EXTRA_OF = {
    "click": "cli",
    "rich": "cli",
    "jinja2": "cli",
    "torch": "compile",
    "transformers": "compile",
    "xdsl": "compile",
    "networkx": "compile",
    "safetensors": "compile",
    "huggingface_hub": "compile",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line (default: this process's own arguments) and exits."""
    # A plain kill unwinds the stack too, so that temporary files are removed.
    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) is signal.SIG_DFL:
            signal.signal(name, _terminate)
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _run(arguments: list[str]) -> int:
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
        return status
    except SparsecompError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader left. Point stdout elsewhere, or the interpreter complains when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_OF:
            raise
        return _fail(f"this needs {package}: pip install 'sparsecomp[{_EXTRA_OF[package]}]'")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")


def _dispatch(arguments: list[str]) -> int:
    import click

    from sparsecomp.cli.verbs import verbs

    try:
        return verbs.main(arguments, prog_name="sparsecomp", standalone_mode=False) or 0
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "sparsecomp"
        return _fail(f"{error.format_message()} (see {command} --help)", USAGE)


def _fail(message: str, status: int = FAILED) -> int:
    print("error:", " ".join(message.split()), file=sys.stderr)
    return status
