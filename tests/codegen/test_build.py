"""Running the C++ compiler."""

import signal
from collections.abc import Iterator

import pytest

from sparsecomp.codegen.build import Compiler


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises, though a background job's processes ignore it from birth."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("then", ["exit", "exec sleep 60"], ids=["ended", "at work"])
def test_interrupted(then: str) -> None:
    compiler = Compiler(("sh", "-c", f"kill -INT $PPID; {then}"))
    with pytest.raises(KeyboardInterrupt):
        compiler.run([])
