"""`sparsecomp run` and `sparsecomp inspect`, on an artifact whose model recites the alphabet."""

import json
import platform
import string
import subprocess
from pathlib import Path

import pytest
from cli_support import Command
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from sparsecomp.codegen.pack import ArtifactWriter, weights_layout
from sparsecomp.runtime import artifact as layout
from sparsecomp.runtime import state

# After letter n comes n + 1; 'z' is the end.
PROGRAM = r"""
#include <cstdint>
extern "C" {
int32_t sc_abi_version(void) { return 5; }
void* sc_model_open(const void* weights) { return const_cast<void*>(weights); }
void sc_model_close(void*) {}
void* sc_session_open(void* model, int64_t) { return model; }
void sc_session_close(void*) {}
static void recite(int32_t token, float* logits) {
    for (int i = 0; i < 26; ++i) logits[i] = i == token + 1 ? 1.0f : 0.0f;
}
int32_t sc_prefill(void*, const int32_t* tokens, int64_t n, int64_t, float* logits) {
    if (logits) recite(tokens[n - 1], logits);
    return 0;
}
int32_t sc_decode(void*, int32_t token, int64_t, float* logits, int32_t) {
    recite(token, logits);
    return 0;
}
int32_t sc_session_counters(void*, int64_t*, int64_t) { return 0; }
void sc_session_exchange(void*, void*, void*) {}
int32_t sc_session_trace(void*, int32_t*, int64_t) { return 0; }
int32_t sc_session_profile(void*, int64_t*, int64_t) { return 0; }
const char* sc_steps(void) { return ""; }
}
"""
TEMPLATE = "{{ bos_token }} {{ messages[0].content }}"


def tokenizer() -> str:
    letters = {letter: number for number, letter in enumerate(string.ascii_lowercase)}
    made = Tokenizer(models.WordLevel(letters, unk_token="a"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    return made.to_str()


@pytest.fixture(scope="module")
def alphabet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alphabet")
    source, library = folder / "program.cpp", folder / "program.so"
    source.write_text(PROGRAM)
    subprocess.run(["c++", "-shared", "-fPIC", "-o", library, source], check=True)
    manifest = layout.Manifest(
        compiler_version="0.1.0",
        model=layout.ModelFacts(
            name="alphabet",
            vocab_size=26,
            context=100,
            layers=3,
            hidden=8,
            parameters=12345,
            dtype=layout.Dtype.BF16,
            eos_token_ids=(25,),
            bos_token_id=None,
            rewind_limit=None,
        ),
        programs=(
            layout.Program(
                target=layout.Target.NATIVE,
                machine=layout.Machine(platform.machine()),
                cpu_flags=(),
                member=layout.program_member(layout.Target.NATIVE),
                workers=2,
                abi_version=layout.ABI_VERSION,
            ),
        ),
        bytes_per_token={layout.Part.MLP: 3000, layout.Part.HEAD: 1000},
        dense_bytes_per_token={layout.Part.MLP: 3000, layout.Part.HEAD: 1000},
        fixed_bytes_per_token={layout.Part.MLP: 3000, layout.Part.HEAD: 1000},
        blocks=(),
        counters=layout.OWN_COUNTERS,
        trace_slots=0,
        kv_bytes_per_position=48,
        weights_bytes=8,
    )
    weights = weights_layout([("w", "F32", (2,))])
    path = folder / "alphabet.spz"
    with ArtifactWriter(path) as writer:
        for stage in (layout.Stage.ATEN, layout.Stage.SPZ, layout.Stage.EXEC):
            writer.add_bytes(layout.ir_member(stage), f"// the {stage} IR\n".encode())
        writer.add_bytes(layout.SOURCE, PROGRAM.encode())
        writer.add_bytes(layout.program_member(layout.Target.NATIVE), library.read_bytes())
        chunks = weights.chunks([("w", bytes(8))])
        writer.add_stream(layout.WEIGHTS, weights.member_bytes, chunks)
        writer.add_bytes(layout.TOKENIZER, tokenizer().encode())
        writer.add_bytes(layout.TOKENIZER_CONFIG, b'{"bos_token": {"content": "m"}}')
        writer.add_bytes(layout.CHAT_TEMPLATE, TEMPLATE.encode())
        writer.finish(manifest)
    return path


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSECOMP_STATE_DIR", str(tmp_path / "state"))


def test_text_on_stdout_speed_on_stderr(sparsecomp: Command, alphabet: Path) -> None:
    result = sparsecomp("run", alphabet, "-p", "tu", "--allow-native")
    assert (result.status, result.out) == (0, "vwxy\n")
    (line,) = result.err.splitlines()
    assert line.startswith("prompt: 2 tokens at ") and "; new: 4 tokens at " in line


def test_sampling_options_arrive(sparsecomp: Command, alphabet: Path) -> None:
    def text(*options: object) -> str:
        return sparsecomp("run", alphabet, "-p", "a", "--allow-native", *options).out

    assert text("--max-new-tokens", 3) == "bcd\n"
    assert text("--stop", "fg", "--stop", "ij") == "bcde\n"
    assert text("--temperature", 9, "--top-k", 1, "--max-new-tokens", 2) == "bc\n"
    assert text("--temperature", 9, "--top-p", 1e-6, "--max-new-tokens", 2) == "bc\n"
    wild = ("--temperature", 9, "--max-new-tokens", 20)
    assert text(*wild, "--seed", 1) == text(*wild, "--seed", 1) != text(*wild, "--seed", 2)


def test_chat_renders_the_template(sparsecomp: Command, alphabet: Path) -> None:
    result = sparsecomp("run", alphabet, "-p", "x", "--chat", "--allow-native", "--json")
    record = json.loads(result.out)
    assert record["text"] == "y"
    assert record["prompt_tokens"] == len("m x")
    assert record["finish_reason"] == "eos"
    assert record["new_tokens"] == 1
    assert record["prefill_seconds"] > 0


def test_native_code_needs_trust(sparsecomp: Command, alphabet: Path) -> None:
    result = sparsecomp("run", alphabet, "-p", "a")
    assert result.status == 1
    assert "--allow-native" in result.error_line()
    with layout.Artifact.open(alphabet) as opened:
        member = layout.program_member(layout.Target.NATIVE)
        state.remember_compiled(opened.manifest.members[member].sha256)
    assert sparsecomp("run", alphabet, "-p", "w").out == "xy\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature", "-1"], "temperature: is -1.0"),
        (["--max-new-tokens", "0"], "max_new_tokens: is 0"),
        (["--stop", ""], "stop: "),
    ],
)
def test_wrong_parameters(
    sparsecomp: Command, alphabet: Path, options: list[str], message: str
) -> None:
    result = sparsecomp("run", alphabet, "-p", "a", "--allow-native", *options)
    assert result.status == 1
    assert message in result.error_line()


@pytest.mark.parametrize("verb", [("run", "-p", "a"), ("inspect",), ("inspect", "--json")])
def test_not_an_artifact(sparsecomp: Command, tmp_path: Path, verb: tuple[str, ...]) -> None:
    path = tmp_path / "x.spz"
    path.write_text("no artifact at all")
    for file in (path, tmp_path / "missing.spz", tmp_path):
        result = sparsecomp(*verb, file)
        assert result.status == 1
        assert str(file) in result.error_line()


def test_summary(sparsecomp: Command, alphabet: Path) -> None:
    words = " ".join(sparsecomp("inspect", alphabet).out.split())
    for fact in (
        "name alphabet",
        "parameters 12,345",
        "context 100 positions",
        "stored as bf16",
        "KV cache 48 bytes a position",
        "ir/spz.mlir 14",
        "mlp 3,000 75.0%",
        "all 4,000 100.0%",
    ):
        assert fact in words


def test_ir_source_and_json(sparsecomp: Command, alphabet: Path) -> None:
    assert sparsecomp("inspect", alphabet, "--ir").out == "// the spz IR\n"
    assert sparsecomp("inspect", alphabet, "--ir", "exec").out == "// the exec IR\n"
    assert sparsecomp("inspect", alphabet, "--source").out == PROGRAM.rstrip("\n") + "\n"
    record = json.loads(sparsecomp("inspect", alphabet, "--json").out)
    assert record["model"]["parameters"] == 12345
    assert record["programs"][0]["workers"] == 2
    assert record["members"]["ir/spz.mlir"]["size"] == 14


def test_a_dense_artifact_has_no_recipe(sparsecomp: Command, alphabet: Path) -> None:
    result = sparsecomp("inspect", alphabet, "--recipe")
    assert result.status == 1
    assert "has no recipe; it was compiled without sparsity" in result.error_line()
    assert json.loads(sparsecomp("inspect", alphabet, "--json").out)["sparsity"] is None
