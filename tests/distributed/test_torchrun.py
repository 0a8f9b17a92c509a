"""The real thing: processes that torchrun starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import sparsecomp.runtime as rt

ROOT = Path(__file__).parent.parent.parent
ArtifactOf = Callable[[int], Path]
VERB = ("-m", "sparsecomp.distributed")


def torchrun(ranks: int, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    command += ["--standalone", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error:")]


def test_the_same_tokens(artifact_of: ArtifactOf) -> None:
    """And what is exchanged for each: two sums of 48 floats for a layer, one candidate."""
    with rt.load(artifact_of(1)) as model:
        expected = model.generate("hello world", max_new_tokens=40)
    run = torchrun(
        2, *VERB, artifact_of(2), "-p", "hello world", "--max-new-tokens", "40", "--json"
    )
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    record = json.loads(out)
    assert [record["text"]] == expected
    assert record["exchanged"] == {
        "prompt_sums_bytes": 11 * 3 * 48 * 4 - 10 * 48 * 4 + 48 * 4,
        "sums_bytes_per_token": 4 * 48 * 4,
        "sums_per_token": 4,
        "candidates_bytes_per_token": 8,
        "all_scores_bytes_per_token": 160 * 4,
    }


DIES = """
import os, signal, sys
from sparsecomp.distributed import __main__ as verb
from sparsecomp.distributed.group import Group

add_up, calls = Group.add_up, []

def dies(self, values):
    calls.append(0)
    if self.rank == 1 and len(calls) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    add_up(self, values)

Group.add_up = dies
sys.exit(verb.main())
"""


def test_a_rank_that_dies_ends_the_others(artifact_of: ArtifactOf, tmp_path: Path) -> None:
    """Killed on its way to its 20th sum, as if from outside."""
    (tmp_path / "dies.py").write_text(DIES)
    run = torchrun(2, tmp_path / "dies.py", artifact_of(2), "-p", "a")
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert errors(err) == ["error: rank 1 died or does not answer; the others end"]


def test_mistakes_are_one_line(artifact_of: ArtifactOf) -> None:
    run = torchrun(1, *VERB, artifact_of(2), "-p", "x")
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    (line,) = errors(err)
    assert line.startswith(f"error: {artifact_of(2)}: is split over 2 ranks, 1 started: torchrun")


def alone(code: str, artifact: Path) -> list[str]:
    """The errors of one process that torchrun did not start."""
    command = [sys.executable, "-c", code, str(artifact), "-p", "x"]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    environment |= {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    return errors(done.stderr)


def test_it_needs_torchrun_and_torch(artifact_of: ArtifactOf) -> None:
    code = "import sys; {}from sparsecomp.distributed.__main__ import main; sys.exit(main())"
    (line,) = alone(code.format(""), artifact_of(2))
    assert "was not started by torchrun; run torchrun --nproc-per-node N" in line
    without = code.format("sys.modules['torch'] = None; ")
    assert alone(without, artifact_of(2)) == [
        "error: this needs torch: pip install 'sparsecomp[distributed]'"
    ]


GPUS = """
import ctypes, sys
import numpy as np
import torch
from sparsecomp.distributed.group import FloatsAt, Group
from sparsecomp.errors import SparsecompError

def taken_over(floats, device):
    # As torch would, were this the memory of a GPU.
    place = floats.__cuda_array_interface__
    assert place["typestr"] == "<f4" and place["version"] == 3 and not place["data"][1]
    pointer = ctypes.cast(place["data"][0], ctypes.POINTER(ctypes.c_float))
    return torch.from_numpy(np.ctypeslib.as_array(pointer, place["shape"]))

group = Group(20)
assert group.local_rank == group.rank and group.add_up_on_gpu is None
try:
    group.meet_on("a GPU" if group.rank else "cpu")
except SparsecompError as error:
    print(error)
group.meet_on("cpu")
assert group.add_up_on_gpu is None
torch.as_tensor, torch.cuda.synchronize = taken_over, lambda device: None
group._has_nccl = lambda: True
group.meet_on("a GPU")
values = np.array([1.0, 2.0, 4.0], np.float32) * (1 + 9 * group.rank)
group.add_up_on_gpu(values.ctypes.data + 4, 2)
assert values.tolist() == [values[0], 22.0, 44.0], values
assert group.counted.sums.bytes == 8
group.close()
"""


def test_sums_are_made_in_a_gpu_where_all_ranks_have_one(tmp_path: Path) -> None:
    """As far as that goes without one: NCCL itself is not there."""
    (tmp_path / "gpus.py").write_text(GPUS)
    run = torchrun(2, tmp_path / "gpus.py")
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    told = "rank 1 runs on a GPU, rank 0 on its CPU; give --device cpu"
    assert out.splitlines() == [told] * 2
