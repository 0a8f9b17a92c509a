"""Sparse programs for a GPU, whole, in Triton's interpreter: what is launched computes what the
reference does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from e2e_support import compile_dir, error, random_ids
from families import make_model_dir
from gpu_devices import InterpretingDevice, uncompiled
from imposed import Masked, impose
from test_gpu_program import Opened, small

import sparsecomp.runtime as rt
from sparsecomp import nibbles
from sparsecomp.codegen.triton import lists, program
from sparsecomp.codegen.triton.call import Kernel
from sparsecomp.dialects import exec
from sparsecomp.options import CudaTarget, Dtype, Target
from sparsecomp.reference import kernels
from sparsecomp.reference.exec import Session
from sparsecomp.runtime import cuda
from sparsecomp.sparsity import Cascade, Cutoff, Exact, LowRank, Narrow, Nested

__all__ = ["small"]

POSITIONS, PROMPT = 64, 1
HEADS, UNITS = 4, 64
"""Units: as many neurons as rows of the vocabulary."""
IDS = random_ids(3)
BEST = [20.0 * (row % 5 == 1 and row < 60) for row in range(UNITS)]
"""Added to scores: no rounding decides what is chosen."""


def test_heads_and_neurons(tmp_path: Path) -> None:
    """The best heads of a group, neurons by their gate, and by their own value."""
    path = make_model_dir("llama", tmp_path / "model")
    heads = LowRank(rank=4, count=2, group=HEADS, density=0.5, active=0.5)
    choices = {
        "model.layers.0.self_attn": heads,
        "model.layers.0.mlp": Cutoff(of=Exact.GATE, threshold=0.1, density=0.5),
        "model.layers.1.mlp": Cutoff(of=Exact.NEURON, threshold=0.1, density=0.5),
    }
    masked = Masked(path, impose(choices, 32, HEADS), POSITIONS)
    opened = Opened(masked.for_gpu(), masked.weights, tmp_path)
    actual = [opened.prefill(IDS[:PROMPT])]
    actual += [opened.decode(IDS[p], p) for p in range(PROMPT, len(IDS))]
    expected = masked.logits(IDS, PROMPT).numpy()
    assert error(np.stack(actual), expected) < 5e-5
    dense = Masked(path, None, POSITIONS).logits(IDS, PROMPT).numpy()
    assert error(dense, expected) > 1e-2


def test_what_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as on the CPU, whichever stream is faster: chosen units, neurons that do not come out
    as 0, keys and values of the heads that are read."""
    units = 8  # neurons, or heads
    monkeypatch.setattr(lists, "LEAST_SEGMENT", 4)
    path = make_model_dir("opt", tmp_path / "model", ffn_dim=units, num_attention_heads=units)
    neurons = LowRank(rank=6, threshold=0.0, density=0.5, active=0.25)
    layer = "model.decoder.layers"
    choices = {
        f"{layer}.0": neurons,
        f"{layer}.1": dataclasses.replace(neurons, lookahead=1),
        f"{layer}.1.self_attn": LowRank(rank=4, count=3, group=units, density=0.3, active=0.3),
    }
    kernels: dict[bytes, Kernel] = {}
    monkeypatch.setattr(program, "compile_kernel", uncompiled(kernels))
    artifact = compile_dir(
        path,
        tmp_path / "model.spz",
        targets=(Target.NATIVE, CudaTarget.SM_90),
        sparse=impose(choices, 32, units),
    )
    found = []
    for side_first in (True, False, None):
        device = InterpretingDevice(tmp_path, kernels=kernels, side_first=bool(side_first))
        monkeypatch.setattr(cuda, "open_device", lambda ordinal, device=device: device)
        where = "cpu" if side_first is None else "cuda"
        with rt.load(artifact, device=where) as model, model.session() as session:
            session.prefill(IDS[:PROMPT])
            session.trace()
            logits = session.decode(IDS[PROMPT])
            chosen = [units.tolist() for units in session.chosen()]
            found.append(((session.stats(), chosen), logits))
    (first, one), (second, other), (on_cpu, expected) = found
    assert first == second == on_cpu
    assert error(one, expected) < 5e-5 and error(other, expected) < 5e-5
    assert all(
        0 < block.active < block.density < 1 for block in on_cpu[0].blocks if block.kind == "mlp"
    )


def test_sorted_neurons_and_a_head_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 8 bits, of queries in 6 and of heads in 5; with full logits the head is the dense one.

    These kernels multiply floats: what the CPU's round, the reference leaves as it is here. The
    cache is in f32, for the interpreter cuts floats off where a GPU rounds them to bf16.
    """
    monkeypatch.setattr(exec, "cache_item", lambda module: 4)
    monkeypatch.setattr(kernels, "_high", lambda x: x)
    monkeypatch.setattr(kernels, "round_factors", lambda x, groups: x)
    monkeypatch.setattr(nibbles, "FACTOR_STEPS", 1 << 20)
    shape = {"hidden_size": 96, "intermediate_size": UNITS, "num_hidden_layers": 1}
    path = make_model_dir("llama", tmp_path / "model", **shape)
    choices = {
        "model.layers.0.mlp": Nested(threshold=0.5, floor=0.1, density=0.3, coarse=0.4, rank=8),
        "model.layers.0.self_attn": Narrow(bits=6, output_bits=5),
        "lm_head": Cascade(
            count=3,
            probability=1e-3,
            density=12 / UNITS,
            offset=0.25,
            first_count=20,
            first_density=20 / UNITS,
            first_offset=-0.5,
        ),
    }
    masked = Masked(
        path, impose(choices, 96, UNITS, BEST, parts=2, model=path), POSITIONS, Dtype.INT8
    )
    opened = Opened(masked.for_gpu(), masked.weights, tmp_path)
    reference = Session(masked.scheduled(1), masked.weights, positions=POSITIONS)
    opened.prefill(IDS[:PROMPT])
    reference.prefill(torch.tensor(IDS[:PROMPT]), 0)
    logits = {}
    for full in (True, False):
        logits[full] = opened.decode(IDS[PROMPT], PROMPT, full).copy()
        expected = reference.decode(IDS[PROMPT], PROMPT, full).numpy()
        assert error(logits[full], expected) < 5e-5
    assert error(logits[True], logits[False]) > 0.1
