"""What goes wrong on the way is one line, and leaves the files as they were."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from families import make_model_dir
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from sparsecomp import cli
from sparsecomp.codegen import build
from sparsecomp.compile import stages
from sparsecomp.errors import SparsecompError
from sparsecomp.options import Target

OLDER = b"an older artifact"
VOCAB = 64

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with a tokenizer: a word a token. Do not write to it."""
    path = make_model_dir("llama", tmp_path_factory.mktemp("source") / "model")
    words = {f"w{i}": i for i in range(VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture
def model(source: Path, tmp_path: Path) -> Path:
    """A model directory of the test's own."""
    return Path(shutil.copytree(source, tmp_path / "model"))


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    """Where an artifact lies already; it must survive, and nothing must lie beside it."""
    path = tmp_path / "out" / "model.spz"
    path.parent.mkdir()
    path.write_bytes(OLDER)
    yield path
    assert path.read_bytes() == OLDER
    assert os.listdir(path.parent) == [path.name]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line; returns its status and the last line of stderr, the only error."""

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(argument) for argument in arguments])
        lines = capsys.readouterr().err.splitlines()
        if exit_.value.code:
            assert [line for line in lines if line.startswith("error: ")] == lines[-1:], lines
            # Before it come only the stages that were reached.
            stages = ("export: ", "passes: ", "native code: ", "pack: ")
            assert all(line.startswith(stages) for line in lines[:-1]), lines
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, lines[-1]

    return run


@pytest.fixture
def refusal(command: Command, model: Path, output: Path) -> Callable[..., str]:
    """The line with which a compile of `model` (or another directory) is refused."""

    def run(*arguments: object, model_dir: Path = model, to: Path = output) -> str:
        status, line = command("compile", model_dir, "-o", to, "--workers", 2, *arguments)
        assert status == 1
        return line.removeprefix("error: ")

    return run


def edit_config(model: Path, **fields: Any) -> None:
    file = model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@contextlib.contextmanager
def tensors_of(model: Path) -> Iterator[dict[str, torch.Tensor]]:
    """The tensors of the checkpoint, to change."""
    file = model / "model.safetensors"
    tensors = load_file(file)
    yield tensors
    save_file(tensors, file)


# ---- the model ----


def test_a_directory_that_is_not_there(refusal: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere does not exist" in refusal(model_dir=tmp_path / "nowhere")


def test_a_file_for_a_directory(refusal: Callable[..., str], model: Path) -> None:
    assert "config.json is a file; give the directory" in refusal(model_dir=model / "config.json")


def test_no_config(refusal: Callable[..., str], model: Path) -> None:
    (model / "config.json").unlink()
    assert "has no config.json" in refusal()


def test_a_hub_id_is_asked_for(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(repo_id: str, **_: object) -> str:
        raise OSError(f"{repo_id} is out of reach")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    expected = "no such directory, and it cannot be downloaded: org/tiny is out of reach"
    assert expected in refusal(model_dir=Path("org/tiny"))


def test_an_encoder(refusal: Callable[..., str], tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "bert", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=VOCAB
    )
    AutoModel.from_config(config).save_pretrained(tmp_path / "bert")
    assert "BertModel is not a causal language model" in refusal(model_dir=tmp_path / "bert")


def test_an_encoder_decoder(refusal: Callable[..., str], tmp_path: Path) -> None:
    config = AutoConfig.for_model("t5", d_model=16, num_layers=1, num_heads=2, vocab_size=VOCAB)
    AutoModel.from_config(config).save_pretrained(tmp_path / "t5")
    assert "no causal language model for model_type 't5'" in refusal(model_dir=tmp_path / "t5")


def test_a_recurrent_model(refusal: Callable[..., str], tmp_path: Path) -> None:
    config = AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=1, vocab_size=VOCAB)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "mamba")
    assert "something else for each number of tokens" in refusal(model_dir=tmp_path / "mamba")


def test_rope_that_changes_with_the_length(refusal: Callable[..., str], model: Path) -> None:
    dynamic = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    edit_config(model, rope_parameters=dynamic)
    assert "its code branches on the value of a tensor" in refusal()


def test_an_unknown_op(refusal: Callable[..., str], tmp_path: Path) -> None:
    # This variant of attention makes an uninitialised tensor.
    model = make_model_dir("gpt2", tmp_path / "gpt2", reorder_and_upcast_attn=True)
    expected = "op aten.empty.memory_format in transformer.h.0.attn: not known to sparsecomp"
    assert expected in refusal(model_dir=model)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"vocab_size": "many"}, "Field 'vocab_size' expected int"),
        ({"num_attention_heads": 5}, "not a multiple of the number of attention heads (5)"),
        ({"hidden_act": "unheard"}, "knows no 'unheard'"),
        ({"hidden_size": 64}, "has shape 64x32, config.json asks for 64x64"),
        ({"num_hidden_layers": 3}, "tensor model.layers.2.input_layernorm.weight is missing"),
        ({"model_type": "unheard"}, "no causal language model for model_type 'unheard'"),
        ({"quantization_config": {"quant_method": "gptq"}}, "checkpoint is quantised (gptq)"),
    ],
)
def test_config(
    refusal: Callable[..., str], model: Path, fields: dict[str, Any], expected: str
) -> None:
    edit_config(model, **fields)
    assert expected in refusal()


def test_no_weights(refusal: Callable[..., str], model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "has neither model.safetensors nor" in refusal()


def test_a_missing_shard(refusal: Callable[..., str], model: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "shard model-00001-of-00002.safetensors is missing" in refusal()


def test_truncated_weights(refusal: Callable[..., str], model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "model.safetensors: is not a whole safetensors file" in refusal()


def test_a_tensor_of_another_shape(refusal: Callable[..., str], model: Path) -> None:
    with tensors_of(model) as tensors:
        tensors["model.norm.weight"] = torch.ones(33)
    assert "tensor model.norm.weight has shape 33, config.json asks for 32" in refusal()


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "an infinity")])
@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight"])
def test_not_finite(
    refusal: Callable[..., str], model: Path, name: str, value: float, kind: str
) -> None:
    with tensors_of(model) as tensors:
        tensors[name][7, 5] = value
    assert refusal().endswith(f"model.safetensors: tensor {name} holds {kind}; the file is damaged")


# ---- options ----


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--workers", 0], "workers is 0; it must be between 1 and 1024"),
        (["--workers", 10**9], "workers is 1000000000; it must be between 1 and 1024"),
        (["--context", 0], "context is 0; it must be at least 1 position"),
        (["--context", 65], "context 65: the model was made for at most 64 positions"),
        (["--context", 10**18], "the model was made for at most 64 positions"),
        (["--stop-after", "unheard"], "no pass 'unheard'; there are: canonicalize, "),
        (["--print-ir-after", "unheard"], "no pass 'unheard'; there are: canonicalize, "),
    ],
)
def test_options(refusal: Callable[..., str], arguments: list[object], expected: str) -> None:
    assert expected in refusal(*arguments)


def test_output_in_no_directory(refusal: Callable[..., str], tmp_path: Path) -> None:
    assert "no does not exist; create it first" in refusal(to=tmp_path / "no" / "x.spz")


def test_output_that_cannot_be_written(refusal: Callable[..., str]) -> None:
    # Even root cannot make a file there.
    assert "/proc/x.spz: cannot be written" in refusal(to=Path("/proc/x.spz"))


def test_output_that_is_no_file(refusal: Callable[..., str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "pipe is not a regular file" in refusal(to=tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    assert "is a directory; give a file name" in refusal(to=tmp_path)


# ---- the machine ----


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CXX": "/nonexistent"}, "/nonexistent: cannot be run: No such file or directory;"),
        ({"CXX": "false"}, "C++ compiler false: exit status 1"),
        ({"CXX": "true"}, "C++ compiler true: wrote no library"),
        ({"CXX": "c++ -include unheard.h"}, "C++ compiler c++: "),
    ],
)
def test_compilers_that_do_not_work(
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    expected: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert expected in refusal()


def test_no_compiler(refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no ziglang either
    expected = "no C++ compiler found (looked for c++, g++, clang++): install one"
    assert expected in refusal("--target", "native")


def test_a_budget_for_a_gpu_alone_takes_a_compiler_too(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before the model is looked at."""
    monkeypatch.setattr(build, "find_compiler", no_compiler)
    monkeypatch.setattr(stages, "export_model", lambda model_dir: pytest.fail("went on"))
    line = refusal("--target", "cuda:sm_90", "--sparsity", "auto")
    assert "a budget is kept by trying programs on this machine's CPU: none here; --dens" in line


def no_compiler(target: Target, named: Sequence[str]) -> NoReturn:
    raise SparsecompError("none here")


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_gets_too_large(
    refusal: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The compiler writes files too: let it do so before the limit falls.
    from sparsecomp.codegen import build

    limits = contextlib.ExitStack()
    original = build.build

    def then_limit(*arguments: Any) -> bytes:
        library = original(*arguments)
        limits.enter_context(largest_file(50_000))
        return library

    monkeypatch.setattr(build, "build", then_limit)
    with limits:
        assert "model.spz: cannot be written: File too large" in refusal()


def test_a_full_disk(refusal: Callable[..., str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        line = refusal(to=disk / "x.spz")
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)
    assert f"x.spz: no space left in {disk} after " in line


# ---- interruption ----


@pytest.mark.parametrize(
    ("moment", "number", "status", "message"),
    [
        ("export", signal.SIGINT, 130, "error: interrupted"),
        ("passes", signal.SIGINT, 130, "error: interrupted"),
        ("native code", signal.SIGINT, 130, "error: interrupted"),
        ("native code", signal.SIGTERM, 143, None),
    ],
)
def test_interrupted(
    source: Path, output: Path, tmp_path: Path, moment: str, number: int, status: int, message: str
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "sparsecomp", "compile", source, "-o", output],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
        # A background job's children ignore Ctrl-C from birth.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if line.startswith(moment):
                break
        process.send_signal(number)
        rest = process.stderr.read().splitlines()
    assert process.returncode == status
    assert rest[-1:] == ([message] if message else [])
    assert list(temporary.iterdir()) == []


# ---- the artifact ----


@pytest.fixture(scope="session")
def sound(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from e2e_support import compile_dir

    return compile_dir(source, tmp_path_factory.mktemp("sound") / "model.spz")


@pytest.fixture
def artifact(sound: Path, tmp_path: Path) -> Path:
    """An artifact of the test's own."""
    return Path(shutil.copy(sound, tmp_path / "x.spz"))


def test_it_runs(command: Command, artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, line = command("run", artifact, "-p", "w5", "--max-new-tokens", 3)
    assert status == 0 and line.startswith("prompt: 1 tokens at ")


def test_a_truncated_artifact(command: Command, artifact: Path) -> None:
    artifact.write_bytes(artifact.read_bytes()[:-1000])
    status, line = command("run", artifact, "-p", "w5")
    assert status == 1 and line.startswith(f"error: {artifact}: is cut short")


@pytest.mark.parametrize("part", ["manifest.json", "weights.safetensors", "source/program.cpp"])
def test_a_flipped_bit(command: Command, artifact: Path, part: str) -> None:
    with zipfile.ZipFile(artifact) as members:
        names = members.namelist()
        (name,) = [name for name in names if name == part or name.endswith(part.split("/")[-1])]
        offset = members.getinfo(name).header_offset + 200
    data = bytearray(artifact.read_bytes())
    data[offset] ^= 4
    artifact.write_bytes(data)
    for verb in (["run", artifact, "-p", "w5"], ["inspect", artifact]):
        status, line = command(*verb)
        assert status == 1 and f"x.spz: is damaged: member '{name}'" in line


def test_a_prompt_longer_than_the_context(command: Command, artifact: Path) -> None:
    status, line = command("run", artifact, "-p", " ".join(["w5"] * 65))
    assert (status, line) == (1, "error: the prompt has 65 tokens, the model's context is 64")


def test_something_else(command: Command, model: Path) -> None:
    for file in (model / "config.json", model, model / "nothing.spz"):
        status, line = command("run", file, "-p", "w5")
        assert status == 1 and line.startswith(f"error: {file}: ")
