"""The calls that a GPU's driver gets, through the real bindings: a library stands in for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_support import VOCAB
from test_gpu_load import write

pytest.importorskip("cuda.bindings")

RUN = """
import sys
import numpy as np
import sparsecomp.runtime as rt

with rt.load(sys.argv[1], device="cuda", allow_native=True) as model, model.session() as session:
    print(model.device, flush=True)
    session.prefill([1, 2, 3, 4, 5])
    session.decode(6)
    session.decode(7)
"""
READ = f"read {4 * VOCAB} on 1\nfinish 1\n"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the library."""
    folder = tmp_path_factory.mktemp("driver")
    source, library = Path(__file__).with_name("fake_driver.cpp"), folder / "libcuda.so.1"
    subprocess.run(["c++", "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True)
    return folder


def test_what_the_driver_is_asked_for(driver: Path, tmp_path: Path) -> None:
    artifact = write(tmp_path / "toy.spz", None)
    done = subprocess.run(
        [sys.executable, "-c", RUN, artifact],
        env=os.environ | {"LD_LIBRARY_PATH": str(driver)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.partition(": ")[0] for line in done.stdout.splitlines()]
    first, second = ("launch first in sm_90 of first", "launch second in sm_90 of second")
    state = "write 48 on 1"
    assert lines == [
        "first in sm_90 of first",
        "second in sm_90 of second",
        "write 256 on 1",
        # A session's limits and counts.
        *("write 8 on 1", "write 48 on 1"),
        "Fake 9000",
        # A prompt, in two tiles.
        *(state, first, "write 36 on 1", first, second, *READ.splitlines()),
        # The first token is captured, then replayed; its state is written before.
        *("write 36 on 1", "capture 1", first, "record 1 on 1", "wait for 1 on 2", second),
        *("record 2 on 2", first, "wait for 2 on 1", second, "captured 1"),
        *("replay on 1", *READ.splitlines()),
        *("write 36 on 1", "replay on 1", *READ.splitlines()),
        *("drop", "finish 1", "finish 1"),
    ]
    launches = [line for line in done.stdout.splitlines() if line.startswith("launch second")]
    assert all("of 128, shared 128, on" in line for line in launches)
    assert launches[1].split(": ")[1].startswith("1 1 1 of 128, shared 128, on 2")
    arena, bias, out, hidden = map(int, launches[1].split(": ")[2].split())
    assert (bias, out - arena, hidden) == (0, 64, 0)


WITHIN = """
import numpy as np
from sparsecomp.runtime.cuda import open_device
from sparsecomp.runtime.device import DeviceError

device = open_device(0)
first, second = device.allocate(8), device.allocate(8)
given, found = np.array([3, 5], np.int32), np.zeros(2, np.int32)
device.write(first, given.ctypes.data, 8)
device.copy(second, first, 8)
device.clear(second + 4, 4)
device.finish()
device.read(found.ctypes.data, second, 8)
print(found, flush=True)
try:
    open_device(1)
except DeviceError as error:
    print(error)
"""


def test_copies_within_a_gpu_and_a_gpu_too_many(driver: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHIN],
        env=os.environ | {"LD_LIBRARY_PATH": str(driver)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        *("write 8 on 1", "copy 8 on 1", "set 4 on 1", "finish 1", "read 8 on 1", "finish 1"),
        "[3 0]",
        "there is no GPU number 1: each rank takes one, and the NVIDIA driver can use 1",
    ]
