"""What benchmarks for a GPU do without one: a check of benchmarks/gpu.py in Triton's interpreter,
and an artifact from a config."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gpu_devices import InterpretingDevice, uncompiled
from transformers import OPTConfig, OPTForCausalLM

import sparsecomp.runtime as rt
from sparsecomp.codegen.triton import dense, parts, program, sparse
from sparsecomp.codegen.triton.call import Kernel
from sparsecomp.compile import compile_model
from sparsecomp.options import CompileOptions, CudaTarget, Dtype
from sparsecomp.passes import select_kernels
from sparsecomp.runtime import cuda
from sparsecomp.sparsity import LowRank

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZES = {
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "vocab_size": 64,
}


def test_a_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu_checks

    kernels: dict[bytes, Kernel] = {}
    device = InterpretingDevice(tmp_path, kernels=kernels)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(program, "compile_kernel", uncompiled(kernels))
    monkeypatch.setattr(cuda, "open_device", lambda ordinal=0: device)
    monkeypatch.setattr(gpu_checks, "has_compiler", lambda: False)
    monkeypatch.setattr(select_kernels, "ROWS_PER_WORKER", 4)
    for module in (dense, parts, sparse):
        monkeypatch.setattr(module, "PROGRAMS", 4)
    case = gpu_checks.Case(
        "opt, predicted",
        "opt",
        Dtype.F32,
        {"model.decoder.layers.0": LowRank(rank=8, density=0.25, active=0.25)},
        SIZES,
        prompt=1,
        decoded=1,
    )
    checked = gpu_checks.check(case, CudaTarget.SM_90, 0, tmp_path)
    assert checked.passed and checked.reference > 0 and checked.cpu is None
    assert not dataclasses.replace(checked, reference=2 * checked.tolerance).passed
    assert gpu_checks.error(np.array([1.0, np.nan]), np.array([1.0, 2.0])) == np.inf


def test_an_artifact_from_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are made by name take the place of a checkpoint that is hollow."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu_models

    config = OPTConfig(architectures=["OPTForCausalLM"], **SIZES)
    gpu_models.write_hollow(tmp_path / "hollow", config)
    assert (tmp_path / "hollow" / "model.safetensors").stat().st_blocks <= 16
    options = CompileOptions(
        model_dir=tmp_path / "hollow", output=tmp_path / "model.spz", dtype=Dtype.F32, workers=1
    )
    weights = gpu_models.RandomWeights(config)
    compile_model(options, given=weights)
    original = OPTForCausalLM(config).eval()
    original.load_state_dict(dict(weights), strict=False)
    with rt.load(options.output) as model, torch.no_grad():
        logits = model.session().prefill([2, 3, 5])
        expected = original(torch.tensor([[2, 3, 5]])).logits[0, -1].numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_without_a_gpu() -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--quick"]
    run = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    )
    assert run.returncode == 2
    assert run.stdout.startswith("nothing is measured: ") and run.stdout.count("\n") == 1
