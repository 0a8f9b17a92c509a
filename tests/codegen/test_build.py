"""Running the C++ compiler."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparsecomp import codegen
from sparsecomp.codegen.build import NATIVE_MACROS, Compiler

NO_FEATURES = {"__aarch64__", "__clang__", "__x86_64__"}


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


def test_what_kernels_use_is_asked_of_the_processor() -> None:
    headers = sorted((Path(codegen.__file__).parent / "native").glob("*.h"))
    used = {m for header in headers for m in re.findall(r"defined\((\w+)\)", header.read_text())}
    assert "__AVX2__" in used
    assert used - NO_FEATURES <= NATIVE_MACROS.keys()
