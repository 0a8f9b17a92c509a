"""Small artifacts around toy.cpp, sound and forged."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import subprocess
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from sparsecomp.codegen.pack import ArtifactWriter, weights_layout
from sparsecomp.runtime import artifact as layout
from sparsecomp.runtime.artifact import (
    Block,
    BlockKind,
    Dtype,
    Entry,
    Machine,
    Manifest,
    ModelFacts,
    Part,
    Program,
    Target,
)

EOS, BOS = "<eos>", "<bos>"
CONTEXT = 64


def byte_tokenizer() -> Tokenizer:
    """Byte-level, with a few merges: a character beyond ASCII takes several tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("o", "r")]
    tokens = [*alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(EOS, special=True), AddedToken(BOS, special=True)])
    return tokenizer


def sentencepiece_tokenizer() -> Tokenizer:
    """As converted from SentencePiece: a space begins each word, other characters are bytes."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    merges = [("▁", letter) for letter in letters]
    tokens = [
        "<unk>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *letters,
        *("".join(pair) for pair in merges),
    ]
    tokenizer = Tokenizer(
        models.BPE(
            {token: i for i, token in enumerate(tokens)},
            merges,
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(EOS, special=True), AddedToken(BOS, special=True)])
    return tokenizer


VOCAB = 320  # more than either tokenizer has
EOS_ID = byte_tokenizer().token_to_id(EOS)


def build_toy(path: Path, *definitions: str) -> bytes:
    """Compiles toy.cpp; returns the shared library."""
    source = Path(__file__).with_name("toy.cpp")
    sizes = (f"-DVOCAB={VOCAB}", f"-DCONTEXT={CONTEXT}")
    command = ["c++", "-O1", "-shared", "-fPIC", "-std=c++17", *sizes, *definitions]
    subprocess.run([*command, str(source), "-o", str(path)], check=True)
    return path.read_bytes()


TOY_BLOCK = Block(
    module="toy.mlp",
    kind=BlockKind.MLP,
    units=8,
    density=0.5,
    active=0.25,
    chosen_bytes=10,
    active_bytes=20,
    predictor_bytes=0,
    chosen_counter=2,
    active_counter=3,
    trace=0,
)


def toy_manifest(**changes: object) -> Manifest:
    """The manifest of a toy artifact; `changes` are fields of it or of its model."""
    target = Target.NATIVE
    manifest = Manifest(
        compiler_version="0.1.0",
        model=ModelFacts(
            name="toy",
            vocab_size=VOCAB,
            context=CONTEXT,
            layers=1,
            hidden=1,
            parameters=CONTEXT,
            dtype=Dtype.F32,
            eos_token_ids=(EOS_ID,),
            bos_token_id=None,
            rewind_limit=None,
        ),
        programs=(
            Program(
                target,
                Machine(platform.machine()),
                cpu_flags=(),
                member=layout.program_member(target),
                workers=1,
                abi_version=layout.ABI_VERSION,
            ),
        ),
        bytes_per_token={Part.MLP: 8 * 10, Part.OTHER: CONTEXT * 4},
        dense_bytes_per_token={Part.MLP: 8 * 30, Part.OTHER: CONTEXT * 4},
        fixed_bytes_per_token={Part.MLP: 0, Part.OTHER: CONTEXT * 4},
        blocks=(TOY_BLOCK,),
        counters=4,
        trace_slots=9,
        kv_bytes_per_position=4,
        weights_bytes=CONTEXT * 4,
    )
    names = {field.name for field in dataclasses.fields(ModelFacts)} & changes.keys()
    model = dataclasses.replace(manifest.model, **{name: changes[name] for name in names})
    rest = {name: value for name, value in changes.items() if name not in names}
    return dataclasses.replace(manifest, model=model, **rest)


def toy_members(library: bytes, tokenizer: Tokenizer | None, script: Sequence[int]) -> list:
    """(name, data) of every member but the manifest."""
    padded = np.zeros(CONTEXT, np.float32)
    padded[: len(script)] = script
    weights = weights_layout([("script", "F32", (CONTEXT,))])
    stages = (layout.Stage.ATEN, layout.Stage.SPZ, layout.Stage.EXEC)
    members = [
        *((layout.ir_member(stage), f"// {stage}\n".encode()) for stage in stages),
        (layout.SOURCE, b"// source\n"),
        (layout.program_member(Target.NATIVE), library),
        (layout.WEIGHTS, b"".join(weights.chunks([("script", padded.tobytes())]))),
    ]
    if tokenizer is not None:
        members.append((layout.TOKENIZER, tokenizer.to_str().encode()))
    return members


@dataclass(frozen=True)
class Toy:
    """Writes toy artifacts into a directory."""

    directory: Path
    library: bytes

    def write(
        self,
        name: str = "toy.spz",
        *,
        script: Sequence[int] = (),
        tokenizer: Tokenizer | None = None,
        chat_template: str | None = None,
        **changes: object,
    ) -> Path:
        """The model answers `script[p]` after the token at position p."""
        path = self.directory / name
        with ArtifactWriter(path) as writer:
            for member, data in toy_members(self.library, tokenizer, script):
                writer.add_bytes(member, data)
            if chat_template is not None:
                writer.add_bytes(layout.CHAT_TEMPLATE, chat_template.encode())
            writer.finish(toy_manifest(**changes))
        return path


def seal(content: bytes) -> bytes:
    """A whole file from what comes before the seal."""
    return content + layout.seal_comment(hashlib.sha256(content).hexdigest())


def reseal(file: bytes) -> bytes:
    """A file whose seal is right again after a change: a forgery, not an accident."""
    return seal(file[: -layout.layout.SEAL_SIZE])


def forge(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A sealed file with these members as they are, whatever they are."""
    content = b""
    entries = []
    for name, data in members:
        entry = Entry(name, len(content), len(data), zlib.crc32(data))
        content += layout.layout.local_header(name, len(content)) + data
        content += layout.layout.descriptor(entry)
        entries.append(entry)
    return seal(content + layout.layout.directory(entries, len(content)))


def forged_members(members: list, manifest: Manifest) -> list:
    """The members with a manifest that describes them."""
    described = {
        name: layout.Member(len(data), hashlib.sha256(data).hexdigest()) for name, data in members
    }
    full = dataclasses.replace(manifest, members=described)
    return [*members, (layout.MANIFEST, layout.encode_manifest(full))]
