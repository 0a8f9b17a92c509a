"""The artifact file: what is written is read back, and nothing else is accepted."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import mmap
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime_support import (
    CONTEXT,
    Toy,
    byte_tokenizer,
    forge,
    forged_members,
    reseal,
    toy_manifest,
    toy_members,
)

from sparsecomp.codegen.pack import weights_layout
from sparsecomp.errors import SparsecompError
from sparsecomp.runtime import artifact as layout
from sparsecomp.runtime import state
from sparsecomp.runtime.artifact import Artifact, Entry, Stage, TensorDtype

FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(untrusted_toy: Toy) -> Path:
    """A small artifact: its native program is a few bytes, as nothing here runs it."""
    toy = dataclasses.replace(untrusted_toy, library=b"not really code")
    return toy.write(script=[1, 2, 3], tokenizer=byte_tokenizer())


def members_and_manifest(**changes: object) -> tuple[list, layout.Manifest]:
    return toy_members(b"code", None, []), toy_manifest(**changes)


def refusal(path: Path) -> str:
    with pytest.raises(SparsecompError) as caught:
        Artifact.open(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def refusal_of(content: bytes, tmp_path: Path) -> str:
    path = tmp_path / "forged.spz"
    path.write_bytes(content)
    return refusal(path)


def test_read_back(path: Path) -> None:
    with Artifact.open(path) as artifact:
        manifest = artifact.manifest
        assert dataclasses.replace(manifest, members={}) == toy_manifest()
        assert set(artifact.member_names) == {
            *layout.required_members(manifest), layout.TOKENIZER, layout.MANIFEST
        }  # fmt: skip
        assert artifact.read_text(layout.ir_member(Stage.SPZ)) == "// spz\n"
        for name, member in manifest.members.items():
            data = artifact.read_bytes(name)
            assert (len(data), hashlib.sha256(data).hexdigest()) == (member.size, member.sha256)
        assert bytes(artifact.weights[:12]) == b"\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40"
        assert len(artifact.weights) == manifest.weights_bytes == CONTEXT * 4
        assert artifact.weights_address % 64 == 0
        assert artifact.tensors["script"].dtype is TensorDtype.F32
        with pytest.raises(SparsecompError, match="has no member 'tokenizer/chat_template"):
            artifact.read_text(layout.CHAT_TEMPLATE)


def test_every_member_starts_on_64_bytes_and_ordinary_tools_read_it(path: Path) -> None:
    content = path.read_bytes()
    with Artifact.open(path) as artifact, zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(artifact.member_names)
        assert archive.comment == b"spz1:" + artifact.seal.encode()
        for name in artifact.member_names:
            data = archive.read(name)
            assert data == artifact.read_bytes(name)
            assert artifact._entries[name].data_start % 64 == 0
            assert content[artifact._entries[name].data_start :].startswith(data)
            assert archive.getinfo(name).date_time == (1980, 1, 1, 0, 0, 0)
    seal = hashlib.sha256(content[:-69]).hexdigest().encode()
    assert content[-69:] == b"spz1:" + seal


def test_same_input_gives_the_same_bytes(untrusted_toy: Toy) -> None:
    one, two = untrusted_toy.write("a.spz"), untrusted_toy.write("b.spz")
    assert one.read_bytes() == two.read_bytes()


@FEW
@given(data=st.data())
def test_any_changed_byte_is_found(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    content[where] ^= data.draw(st.integers(1, 255))
    damaged = path.with_name("damaged.spz")
    damaged.write_bytes(content)
    message = refusal(damaged)
    with Artifact.open(path) as artifact:
        for name, entry in artifact._entries.items():
            if entry.data_start <= where < entry.data_end:
                assert "is damaged" in message and repr(name) in message


@FEW
@given(data=st.data())
def test_a_file_cut_anywhere_is_refused(path: Path, data: st.DataObject) -> None:
    content = path.read_bytes()
    cut = path.with_name("cut.spz")
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert refusal(cut).split(" ")[0] == "is"


def test_each_damaged_part_is_named(path: Path) -> None:
    content = path.read_bytes()
    with Artifact.open(path) as artifact:
        entries = artifact._entries
    weights = entries[layout.WEIGHTS]
    cases = {
        weights.data_start: "is damaged: member 'weights.safetensors' has changed",
        weights.offset + 10: "is damaged: member 'weights.safetensors' has headers",
        entries[layout.MANIFEST].data_start: "is damaged: member 'manifest.json' has changed",
        len(content) - 1: "is damaged: the seal itself has changed",
        len(content) - 69: "is cut short, or is a zip that sparsecomp did not write",
    }
    for where, expected in cases.items():
        damaged = bytearray(content)
        damaged[where] ^= 1
        assert refusal_of(bytes(damaged), path.parent).startswith(expected)


def test_files_that_are_no_artifact(tmp_path: Path, path: Path) -> None:
    assert refusal_of(b"", tmp_path) == "is empty"
    assert refusal_of(b"GGUF" * 100, tmp_path) == "is not a sparsecomp artifact"
    assert refusal(tmp_path / "missing.spz") == "cannot be read: No such file or directory"
    assert refusal(tmp_path).startswith("cannot be read: Is a directory")
    assert refusal_of(reseal(b"junk" * 16 + path.read_bytes()), tmp_path) == (
        "the end of its directory is not what sparsecomp writes"
    )
    assert refusal_of(path.read_bytes() + b"\0", tmp_path).startswith("is cut short")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("weights.safetensors", b"x" * 500)
    assert refusal_of(stream.getvalue(), tmp_path).startswith("is cut short, or is a zip")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../evil", "member '../evil' is not one that an artifact may hold"),
        ("/etc/passwd", "member '/etc/passwd' is not one"),
        ("ir/spz.mlir/../aten.mlir", "is not one"),
        ("native/x86-64-v5.so", "member 'native/x86-64-v5.so' is not one"),
        ("ir/spz.mlir", "member 'ir/spz.mlir' is there twice"),
        ("manifest.json", "member 'manifest.json' is there twice"),
        ("tokenizer/tokenizer.json", "member 'tokenizer/tokenizer.json' is not the one"),
        ("native/aarch64.so", "member 'native/aarch64.so' is not the one"),
    ],
)
def test_forged_with_another_member(name: str, expected: str, tmp_path: Path) -> None:
    members = [*forged_members(*members_and_manifest()), (name, b"surprise")]
    assert expected in refusal_of(forge(members), tmp_path)


@pytest.mark.parametrize("name", layout.REQUIRED_MEMBERS)
def test_forged_without_a_member(name: str, tmp_path: Path) -> None:
    members = [m for m in forged_members(*members_and_manifest()) if m[0] != name]
    assert refusal_of(forge(members), tmp_path) == f"member {name!r} is missing"


def test_forged_members_that_disagree_with_the_manifest(tmp_path: Path) -> None:
    members, manifest = members_and_manifest()
    without = [m for m in forged_members(members, manifest) if not m[0].endswith(".so")]
    assert "'native/native.so' is in the manifest but missing" in refusal_of(
        forge(without), tmp_path
    )
    undescribed = forged_members([m for m in members if not m[0].endswith(".so")], manifest)
    assert "'native/native.so' and the manifest's programs" in refusal_of(
        forge(undescribed), tmp_path
    )
    extra = forged_members([*members, ("native/aarch64.so", b"x")], manifest)
    assert "'native/aarch64.so' and the manifest's programs" in refusal_of(forge(extra), tmp_path)
    wrong = dataclasses.replace(manifest, weights_bytes=CONTEXT * 4 + 1)
    assert refusal_of(forge(forged_members(members, wrong)), tmp_path) == (
        "member 'weights.safetensors' has 256 bytes of data, the manifest says 257"
    )


def test_forged_headers(tmp_path: Path, path: Path) -> None:
    content = path.read_bytes()
    first = content.index(b"PK\1\2")
    for offset, value, expected in (
        (8, 1, "'ir/aten.mlir' is encrypted"),
        (10, 8, "'ir/aten.mlir' is compressed; members must be stored"),
        (12, 7, "'ir/aten.mlir' has headers"),
        (20, 7, "'ir/aten.mlir' has headers"),
        (30, 1, "'ir/aten.mlir' has headers"),
        (32, 1, "'ir/aten.mlir' has headers"),
        (46, ord("i") ^ ord("x"), "'xr/aten.mlir' is not one that an artifact may hold"),
    ):
        forged = bytearray(content)
        forged[first + offset] ^= value
        assert expected in refusal_of(reseal(bytes(forged)), tmp_path)
    # Sizes and offsets beyond the file.
    for extra in (4, 12, 20):
        forged = bytearray(content)
        forged[first + 46 + len("ir/aten.mlir") + extra + 7] = 0x7F
        assert "'ir/aten.mlir'" in refusal_of(reseal(bytes(forged)), tmp_path)


@FEW
@given(data=st.data())
def test_forged_bytes_never_crash_the_reader(path: Path, data: st.DataObject) -> None:
    """With a seal that is right, a reader must still stand any content."""
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\1\2") if data.draw(st.booleans()) else 0
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(start, len(content) - 70))
        content[where] = data.draw(st.integers(0, 255))
    forged = path.with_name("forged.spz")
    forged.write_bytes(reseal(bytes(content)))
    try:
        Artifact.open(forged).close()
    except SparsecompError as error:
        assert str(error).startswith(f"{forged}: ")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d.update(format_version=6), "format_version: is 6, this runtime reads up to 5"),
        (
            lambda d: d.update(format_version=1),
            "format_version: is 1, this runtime reads 5; compile",
        ),
        (lambda d: d["blocks"][0].update(density=1), "blocks[0].density: is int, must be float"),
        (lambda d: d["blocks"][0].update(density=1.5), "blocks[0].density: is 1.5, must be 0 to 1"),
        (lambda d: d["blocks"][0].update(chosen_counter=1), "blocks[0]: counter 1 is not one of"),
        (lambda d: d["blocks"][0].update(active_counter=4), "blocks[0]: counter 4 is not one of"),
        (lambda d: d["blocks"][0].update(trace=1), "blocks[0].trace: its list does not fit"),
        (lambda d: d.update(counters=1 << 40), "counters: is 1099511627776, must be 2 to 1048576"),
        (lambda d: d.update(format_version=True), "format_version: is not a positive integer"),
        (lambda d: d.update(format="other"), 'format: is not "sparsecomp"'),
        (lambda d: d.update(extra=1), "extra: is not known"),
        (lambda d: d.pop("model"), "model: is missing"),
        (lambda d: d["model"].update(vocab_size=0), "model.vocab_size: is 0, must be 1 to"),
        (lambda d: d["model"].update(vocab_size=1 << 70), "model.vocab_size: is 11805"),
        (lambda d: d["model"].update(vocab_size="9"), "model.vocab_size: is str, must be int"),
        (lambda d: d["model"].update(vocab_size=True), "model.vocab_size: is bool, must be int"),
        (lambda d: d["model"].update(dtype="f16"), "model.dtype: is 'f16', must be one of f32"),
        (lambda d: d["model"].update(name="\x1b[2J"), "model.name: has characters that cannot"),
        (lambda d: d["model"].update(eos_token_ids=[320]), "model.eos_token_ids: 320 is not below"),
        (lambda d: d["model"].update(bos_token_id=-1), "model.bos_token_id: is -1"),
        (lambda d: d.update(programs=[]), "programs: is empty"),
        (lambda d: d.update(programs=d["programs"] * 2), "programs: a target is given twice"),
        (lambda d: d["programs"][0].update(member="x"), "programs[0].member: is 'x', must be"),
        (lambda d: d["programs"][0].update(workers=0), "programs[0].workers: is 0"),
        (lambda d: d["programs"][0].update(cpu_flags="avx"), "programs[0].cpu_flags: is str"),
        (lambda d: d.update(bytes_per_token={"x": 1}), "bytes_per_token: is 'x', must be one of"),
        (lambda d: d["members"].update({"a": {"size": 1, "sha256": "x"}}), "members.a.sha256"),
    ],
)
def test_forged_manifest(change, expected: str, tmp_path: Path) -> None:
    members = forged_members(*members_and_manifest())
    document = json.loads(members[-1][1])
    change(document)
    members[-1] = (layout.MANIFEST, json.dumps(document).encode())
    message = refusal_of(forge(members), tmp_path)
    assert message.startswith(f"member 'manifest.json': {expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\xff", "is not valid JSON"),
        (b"[1]", "is not a JSON object"),
        (b'{"a": 1, "a": 1}', "a key is given twice"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON"),
    ],
)
def test_manifest_that_is_no_json(text: bytes, expected: str, tmp_path: Path) -> None:
    members = forged_members(*members_and_manifest())
    members[-1] = (layout.MANIFEST, text)
    assert expected in refusal_of(forge(members), tmp_path)


def weights_member(document: object, data: int, pad: int = 64) -> bytes:
    text = json.dumps(document).encode()
    text = text.ljust(-(-(8 + len(text)) // pad) * pad - 8)
    return len(text).to_bytes(8, "little") + text + bytes(data)


def tensor(begin: int, end: int, dtype: str = "F32", shape: object = None) -> dict:
    return {
        "dtype": dtype,
        "shape": [(end - begin) // 4] if shape is None else shape,
        "data_offsets": [begin, end],
    }


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (b"", "its header is longer than the member"),
        ((2**63).to_bytes(8, "little") + bytes(300), "its header is longer than the member"),
        (weights_member({}, 256)[:-256] + bytes(255), "its tensors end at byte 0 of 255 bytes"),
        (weights_member({"a": tensor(0, 256)}, 256, pad=4), "does not start on 64 bytes"),
        (weights_member({"a": tensor(0, 512)}, 256), "end at byte 512 of 256 bytes"),
        (weights_member({"a": tensor(64, 256)}, 256), "tensor 'a' leaves a hole"),
        (
            weights_member({"a": tensor(0, 192), "b": tensor(128, 256)}, 256),
            "tensor 'b' overlaps the one before it",
        ),
        (
            weights_member({"a": tensor(0, 4), "b": tensor(4, 256)}, 256),
            "tensor 'b' does not start on 64 bytes",
        ),
        (weights_member({"a": tensor(0, 256, shape=[63])}, 256), "'a': 256 bytes, .* need 252"),
        (weights_member({"a": tensor(0, 256, "I64", [32])}, 256), "'a': its dtype, shape or"),
        (weights_member({"a": tensor(0, 256, shape=[-64])}, 256), "'a': its dtype, shape or"),
        (weights_member({"a": tensor(0, 256, shape="64")}, 256), "'a': its dtype, shape or"),
        (weights_member({"__metadata__": {"a": "b"}}, 0), "'__metadata__': must have dtype"),
        (weights_member([], 256), "is not a JSON object"),
    ],
)
def test_forged_weights(member: bytes, expected: str, tmp_path: Path) -> None:
    members, manifest = members_and_manifest()
    members = [(n, member if n == layout.WEIGHTS else data) for n, data in members]
    path = tmp_path / "forged.spz"
    path.write_bytes(forge(forged_members(members, manifest)))
    with pytest.raises(SparsecompError, match=f"member 'weights.safetensors': .*{expected}"):
        Artifact.open(path)


def test_weights_layout_is_aligned_and_the_safetensors_library_reads_it() -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    tensors = {
        "a": torch.arange(5, dtype=torch.float32),
        "b": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
        "c": torch.arange(32, dtype=torch.float32),
    }
    names = {torch.float32: "F32", torch.bfloat16: "BF16"}
    plan = weights_layout([(n, names[t.dtype], t.shape) for n, t in tensors.items()])
    assert plan.offsets == {"a": 0, "b": 64, "c": 128} and plan.data_bytes == 256
    assert len(plan.header) % 64 == 0
    pieces = [
        ("a", tensors["a"].numpy().tobytes()),
        *(("b", row.view(torch.uint8).numpy()) for row in tensors["b"]),
        ("c", tensors["c"].numpy()),
    ]
    member = b"".join(plan.chunks(pieces))
    assert len(member) == plan.member_bytes
    read = library.load(member)
    for name, value in tensors.items():
        assert torch.equal(read[name], value)
    header = layout.parse_weights_header(memoryview(member))
    assert header.tensors == plan.tensors and header.data_size == 256


def test_weights_that_do_not_fit_their_layout() -> None:
    plan = weights_layout([("a", "F32", (4,)), ("b", "F32", (4,))])
    a, b = ("a", bytes(16)), ("b", bytes(16))
    for weights, problem in (
        ([b, a], "'b' comes where 'a' belongs"),
        ([a], "end 64 bytes early"),
        ([("a", bytes(8)), b], "'a' ends 8 bytes early"),
        ([("a", bytes(17)), b], "'a' is 1 bytes too long"),
        ([a, b, b], "'b' comes where '' belongs"),
    ):
        with pytest.raises(ValueError, match=problem):
            list(plan.chunks(weights))
    for name in ("a", "__metadata__", "__padding__.0"):
        with pytest.raises(SparsecompError, match=f"weight '{name}': the name is doubled"):
            weights_layout([("a", "F32", (1,)), (name, "F32", (1,))])


def test_members_over_four_gigabytes(tmp_path: Path) -> None:
    big = Entry(layout.SOURCE, 0, 5 << 30, 123)
    small = Entry(layout.WEIGHTS, big.end, 10, 456)
    path = tmp_path / "big.zip"
    with path.open("wb") as file:  # the data is a hole in the file
        for entry in (big, small):
            file.seek(entry.offset)
            file.write(layout.layout.local_header(entry.name, entry.offset))
            file.seek(entry.data_end)
            file.write(layout.layout.descriptor(entry))
        file.write(layout.layout.directory([big, small], small.end))
        file.write(layout.seal_comment("0" * 64))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        assert layout.layout.read_directory(view, layout.MEMBER_NAMES) == (big, small)
        view.release()
    with zipfile.ZipFile(path) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        assert infos[layout.SOURCE].file_size == 5 << 30
        assert infos[layout.WEIGHTS].header_offset == small.offset


def test_hashing_happens_once_for_an_unchanged_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(path, (1, 1))
    Artifact.open(path).close()
    content = bytearray(path.read_bytes())
    with Artifact.open(path) as artifact:
        where = artifact._entries[layout.SOURCE].data_start
    content[where] ^= 1
    path.write_bytes(content)
    os.utime(path, (1, 1))  # hides the change: only the memory of the first open is at work
    Artifact.open(path).close()
    os.utime(path, (2, 2))
    assert "member 'native/program.cpp' has changed" in refusal(path)
    content[where] ^= 1
    path.write_bytes(content)
    Artifact.open(path).close()


def test_a_file_just_written_is_not_remembered(path: Path, state_dir: Path) -> None:
    """Within one tick of the clock a change would keep the file's time."""
    os.utime(path)
    Artifact.open(path).close()
    assert not list(state_dir.rglob("seals/*"))


def test_another_file_with_a_remembered_name_is_checked(path: Path) -> None:
    os.utime(path, (1, 1))
    Artifact.open(path).close()
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    other = path.with_name("other")
    other.write_bytes(damaged)
    os.utime(other, (1, 1))
    os.replace(other, path)
    assert "is damaged" in refusal(path)


def test_broken_memory_is_ignored(path: Path, state_dir: Path) -> None:
    os.utime(path, (1, 1))
    for content in (b"", b"{", b"3", b"[]", b'["x"]', b"\xff"):
        Artifact.open(path).close()
        (seal_file,) = state_dir.glob("seals/*")
        seal_file.write_bytes(content)
    Artifact.open(path).close()
    status = path.stat()
    identity = state.FileIdentity(str(path), status.st_size, status.st_mtime_ns, status.st_ino)
    assert state.remembered_seal(identity) == path.read_bytes()[-64:].decode()


def test_closing_with_views_out(path: Path) -> None:
    artifact = Artifact.open(path)
    weights = artifact.weights
    artifact.close()
    artifact.close()
    assert bytes(weights[:8]) == b"\0\0\x80\x3f\0\0\0\x40"
    with pytest.raises(SparsecompError, match="the artifact is closed"):
        artifact.weights.tobytes()


def test_importing_the_runtime_is_light() -> None:
    code = (
        "import sys, sparsecomp.runtime as rt; rt.load, rt.Artifact, rt.SamplingParams;"
        "heavy = {'torch', 'xdsl', 'triton', 'transformers', 'jinja2', 'safetensors',"
        " 'tokenizers', 'sparsecomp.codegen'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    # Reading an artifact needs not even numpy.
    light = "import sys, sparsecomp.runtime.artifact; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", light], check=True)
