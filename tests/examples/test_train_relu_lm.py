"""examples/train_relu_lm.py: a model directory at the end, a checkpoint until then."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import sparsecomp.runtime as rt
from sparsecomp.compile import compile_model
from sparsecomp.options import CompileOptions, Dtype

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "sparsecomp" / "calibrate" / "text" / "fiction.txt"
SMALL = [
    *("--layers", "2", "--hidden", "16", "--heads", "2", "--vocab", "300", "--context", "16"),
    *("--steps", "4"),
]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "examples" / "train_relu_lm.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory that took four steps. Do not write to it."""
    path = tmp_path_factory.mktemp("trained") / "model"
    script.main([str(path), "--text", str(TEXT), *SMALL])
    return path


def refused(script: ModuleType, *arguments: object) -> str:
    """The line that a run ends with."""
    with pytest.raises(SystemExit) as ended:
        script.main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, str)
    assert "\n" not in ended.value.code
    return ended.value.code


def assert_same_weights(model_dir: Path, other: Path) -> None:
    expected = load_file(other / "model.safetensors")
    weights = load_file(model_dir / "model.safetensors")
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        assert torch.equal(weight, expected[name]), name


def test_it_is_a_model_directory(trained: Path) -> None:
    assert {file.name for file in trained.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not trained.with_name("model.partial").exists()
    weights = load_file(trained / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in weights  # tied
    model = AutoModelForCausalLM.from_pretrained(trained)
    config = model.config
    assert (config.model_type, config.activation_function) == ("opt", "relu")
    assert (config.num_hidden_layers, config.hidden_size, config.ffn_dim) == (2, 16, 64)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    text = "Tea, naïve café: 3 € or 4 £.\n"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.eos_token_id == config.eos_token_id == 0


def test_its_artifact_says_what_the_model_says(trained: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "model.spz"
    compile_model(CompileOptions(model_dir=trained, output=artifact, dtype=Dtype.F32, workers=1))
    ids = AutoTokenizer.from_pretrained(trained)("The sea").input_ids
    with rt.load(artifact) as compiled, torch.no_grad():
        logits = compiled.session().prefill(ids)
        model = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32)
        expected = model(torch.tensor([ids])).logits[0, -1].numpy()
    np.testing.assert_allclose(np.asarray(logits).reshape(-1)[-300:], expected, atol=1e-4)


def test_it_goes_on_from_where_it_was_stopped(
    script: ModuleType, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = script.Training.step
    taken: list[int] = []

    def step_with_ctrl_c(self: object) -> float:
        loss: float = step(self)
        taken.append(self.steps)  # type: ignore[attr-defined]
        if taken == [1, 2, 3]:
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    monkeypatch.setattr(script.Training, "step", step_with_ctrl_c)
    command = [tmp_path / "model", "--text", TEXT, *SMALL]
    partial = tmp_path / "model.partial"
    assert refused(script, *command).startswith(f"stopped; {partial} keeps what is done")
    assert torch.load(partial / "checkpoint.pt")["steps"] == 3
    assert not (tmp_path / "model").exists()

    script.main([str(argument) for argument in command])
    assert taken == [1, 2, 3, 4]
    # As if it had never been stopped: same batches, same moments of the optimizer.
    assert_same_weights(tmp_path / "model", trained)


def test_a_crash_loses_only_what_came_after_the_checkpoint(
    script: ModuleType, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = script.Training.step

    def step_with_a_crash(self: object) -> float:
        if self.steps == 3:  # type: ignore[attr-defined]
            raise MemoryError
        loss: float = step(self)
        return loss

    monkeypatch.setattr(script, "SAVE_EVERY", 2)
    command = [str(tmp_path / "model"), "--text", str(TEXT), *SMALL]
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(script.Training, "step", step_with_a_crash)
        script.main(command)
    assert torch.load(tmp_path / "model.partial" / "checkpoint.pt")["steps"] == 2
    script.main(command)
    assert_same_weights(tmp_path / "model", trained)


def test_another_run_does_not_go_on_with_its_checkpoint(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    command = [tmp_path / "model", "--text", TEXT, *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(script, "train", stop)
        refused(script, *command)
    assert refused(script, *command, "--hidden", 32) == (
        f"error: {tmp_path / 'model.partial'} was begun with hidden 16, not 32;"
        " give the same, or remove it"
    )


def test_what_exists_is_kept(script: ModuleType, trained: Path) -> None:
    assert "exists already" in refused(script, trained, "--text", TEXT, *SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hidden", 30, "--heads", 4], "--hidden 30 is no multiple of --heads 4"),
        (["--layers", 0], "--layers is 0; it must be 1 or more"),
        (["--vocab", 100], "--vocab is 100; it must be 300 to 65535"),
        (["--steps", 0], "--steps is 0; it must be more than 0"),
        (["--l1", -1], "--l1 is -1.0; it must be 0 or more"),
    ],
)
def test_bad_settings(
    script: ModuleType, tmp_path: Path, options: list[object], message: str
) -> None:
    line = refused(script, tmp_path / "model", "--text", TEXT, *SMALL, *options)
    assert line == f"error: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "text.txt does not exist"),
        (b"", "only 257 different tokens, --vocab is 300"),
        (b"\xff\xfe\x00", "text.txt is not UTF-8 text (byte 0)"),
        (TEXT.read_bytes()[:300], "a context of 16 needs 256: give more text"),
    ],
)
def test_bad_text(script: ModuleType, tmp_path: Path, content: bytes | None, message: str) -> None:
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_bytes(content)
    assert message in refused(script, tmp_path / "model", "--text", text, *SMALL)
    assert not (tmp_path / "model.partial").exists()  # nothing that a good text would meet


def test_a_folder_without_text(script: ModuleType, tmp_path: Path) -> None:
    line = refused(script, tmp_path / "model", "--text", tmp_path, *SMALL)
    assert line == f"error: {tmp_path} holds no .txt file"


def test_no_package_index(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command: SimpleNamespace(returncode=1))
    line = refused(script, tmp_path / "model", *SMALL)
    assert (
        line
        == f"error: pip could not download {script.PACKAGE}; give a text of your own with --text"
    )


def test_wiki_markup_is_stripped(script: ModuleType) -> None:
    article = (
        "{{Infobox|name={{nowrap|x}}}}'''Baikal''' is a [[lake]] in [[Siberia|southern Siberia]]."
        "&lt;ref&gt;Somebody&lt;/ref&gt;\n== Depth ==\n* It is ''deep''.\n"
        "[[Image:Baikal.jpg|thumb|A view]][http://example.org a site] &amp;amp; more\n[[de:Baikal]]"
    )
    assert script.plain(article) == (
        "Baikal is a lake in southern Siberia.\n Depth \nIt is deep.\na site & more"
    )


def test_what_is_held_out_is_not_learned(script: ModuleType) -> None:
    ids = np.arange(50_000, dtype=np.uint16)
    learned, held_out = script.learned(ids, 16), script.held_out(ids, 16)
    assert sorted([*learned, *held_out]) == list(ids)
    assert held_out[0] == 0 and held_out[128] == 128 * script.HELD_OUT
    assert len(held_out) == 4 * 128


def test_it_judges_by_the_neurons_that_fire(script: ModuleType) -> None:
    settings = script.Settings(2, 16, 2, 300, 16, 0.0, 1, None, ())
    model = settings.model()
    for layer, bias in zip(model.model.decoder.layers, (100.0, -100.0), strict=True):
        torch.nn.init.constant_(layer.fc1.bias, bias)
    ids = np.arange(64, dtype=np.uint16)
    loss, active = script.judge(model, ids, 16)
    assert active == [1.0, 0.0]
    windows = torch.arange(64).reshape(4, 16)
    with torch.no_grad():
        assert loss == pytest.approx(model(windows, labels=windows).loss.item(), rel=1e-5)
