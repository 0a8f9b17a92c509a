"""Each weight of a narrow block is rounded by the moments of what it is multiplied with."""

from __future__ import annotations

from pathlib import Path

import torch
from calibrate_support import POSITIONS, Model, windows

from sparsecomp.calibrate.calibration import Calibration, CalibrationModel
from sparsecomp.calibrate.gptq import Compensation, gptq
from sparsecomp.calibrate.text import Split, Splits
from sparsecomp.observer import SilentObserver
from sparsecomp.options import Dtype
from sparsecomp.passes.narrow import rounded_name
from sparsecomp.rounding import rounded
from sparsecomp.sparsity import Narrow

CHOICE = Narrow(bits=6, output_bits=4, key_value_bits=5)


def test_narrow(gated: Model, tmp_path: Path) -> None:
    text = Split(tuple(windows()), "hash")
    given = (gated.weights, POSITIONS, Dtype.INT8, (), "files", tmp_path / "tokenizer.json")
    calibration = Calibration(
        CalibrationModel("llama", gated.module, *given),
        Splits(text, text, text),
        tmp_path / "calibration",
        seed=0,
        lookahead=0,
        observer=SilentObserver(),
    )
    recorded = calibration.recordings
    (mlp, *_), (attention, *_) = list(recorded.mlps), list(recorded.attentions)
    of_mlp, of_attention = recorded.mlps[mlp], recorded.attentions[attention]
    assert of_mlp.moments is not None
    expected = {
        f"{mlp}.gate_proj": (6, (of_mlp.moments,)),
        f"{mlp}.up_proj": (6, (of_mlp.moments,)),
        f"{mlp}.down_proj": (4, of_mlp.neuron_moments),
        f"{attention}.q_proj": (6, of_attention.query_moments),
        f"{attention}.k_proj": (5, of_attention.key_moments),
        f"{attention}.v_proj": (5, of_attention.value_moments),
        f"{attention}.o_proj": (4, of_attention.head_moments),
    }
    found = calibration.narrow(mlp, Narrow(bits=6, output_bits=4))
    found = {**found, **calibration.narrow(attention, CHOICE)}
    for module, (bits, moments) in expected.items():
        weight = gated.weights(f"{module}.weight")
        inputs = [Compensation.by(piece) for piece in moments]
        values = rounded(gptq(weight, bits, inputs), bits).values(weight.shape[1])
        assert torch.equal(found.pop(rounded_name(f"{module}.weight", bits)), values)
    assert not found
    keys, values = of_attention.key_moments, of_attention.value_moments
    assert not torch.allclose(keys[0], values[0], rtol=0.05)
