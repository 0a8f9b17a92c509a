"""Speed of a dense artifact beside llama.cpp at the same precision, and Hugging Face eager.

With --sparse another artifact of the same model takes turns with them.
Every contender gets the same token ids and threads, each in its own process. A round measures the
memory bandwidth, then lets each prefill a prompt, then each decode the same tokens, a few in a turn
(see turns.py), in an order drawn anew each time. Sampling is left out: decode steps are fed the
text's own next token. Prints medians and the spread; asserts nothing.

    python benchmarks/dense.py models/smollm2-135m-instruct
    python benchmarks/dense.py models/smollm2-135m-instruct --dtype int8 \\
        --artifact int8.spz --sparse sparse.spz --no-eager --rounds 60
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from tokenizers import Tokenizer

from bandwidth import BandwidthProgram
from contender import Contender, Prefill, script
from peer import peer_python
from sparsecomp.runtime.artifact import Artifact, Dtype, Manifest
from turns import LEAST_ROUNDS, Ratio

PREFILL_TOKENS = 512
DECODE_PROMPT = 32
TURN = 16
"""Tokens that a contender decodes before the next has its turn."""
GGUF_KINDS = {
    Dtype.F32: ("f16",),
    Dtype.BF16: ("f16",),
    Dtype.INT8: ("q8_0",),
    Dtype.INT4: ("q4_0", "q4_1"),
}
"""What llama.cpp has at the precision of an artifact."""
GGUF_BITS = {"f16": 16.0, "q8_0": 8.5, "q4_0": 4.5, "q4_1": 5.0}
OUR_BITS = {Dtype.F32: 32.0, Dtype.BF16: 16.0, Dtype.INT8: 8.5, Dtype.INT4: 4.5}
"""Of a weight, with its share of a scale."""
OURS = "sparsecomp"
SETTLE_S = 0.05  # lets the last contender's spinning threads go to sleep


@dataclass
class Samples:
    """One contender's figures, one entry a round, in tokens per second."""

    name: str
    bytes_per_token: float  # weights and KV cache that a decode step reads
    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    next_tokens: set[int] = field(default_factory=set)

    @property
    def is_ours(self) -> bool:
        return self.name.startswith(OURS)


@dataclass
class Report:
    """Everything measured; `bandwidth` in GB/s, one entry a round."""

    cpu: str
    threads: int
    decode_tokens: int
    bandwidth: list[float]
    contenders: list[Samples]


def main() -> None:
    options = _arguments()
    if options.rounds < LEAST_ROUNDS:
        sys.exit(f"error: --rounds {options.rounds}: a ratio takes {LEAST_ROUNDS} at least")
    options.build.mkdir(exist_ok=True)
    artifact = options.artifact or _compile(options)
    tokens = _tokens(options.model_dir, options.text, options.decode_tokens)
    with Artifact.open(artifact) as opened:
        manifest = opened.manifest
    kv_bytes = manifest.kv_bytes_per_position * (DECODE_PROMPT + options.decode_tokens / 2)
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(contender) for contender in _contenders(options, artifact, manifest)
        ]
        program = stack.enter_context(BandwidthProgram())
        report = Report(
            cpu=_cpu_name(),
            threads=options.threads,
            decode_tokens=options.decode_tokens,
            bandwidth=[],
            contenders=[Samples(c.name, c.weight_bytes + kv_bytes) for c in contenders],
        )
        random = np.random.default_rng(0)
        for number in range(-1, options.rounds):
            found = program.measure(options.megabytes, options.threads, sweeps=5)
            prefill = _prefill_round(contenders, tokens[:PREFILL_TOKENS], random)
            decode = _decode_round(contenders, tokens, options.decode_tokens, random)
            if number < 0:
                continue  # only warms up
            report.bandwidth.append(found.median)
            for samples, prefilled, seconds in zip(report.contenders, prefill, decode, strict=True):
                samples.prefill.append(PREFILL_TOKENS / prefilled.seconds)
                samples.decode.append(options.decode_tokens / seconds)
                samples.next_tokens.add(prefilled.next_token)
    print(json.dumps(asdict(report), default=list, indent=2) if options.json else _table(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--artifact", type=Path, help="a compiled artifact [compiled anew]")
    parser.add_argument("--sparse", type=Path, help="an artifact that takes turns with it")
    parser.add_argument("--dtype", choices=list(map(str, Dtype)), default=str(Dtype.BF16))
    parser.add_argument("--text", type=Path, default=Path(__file__).with_name("prompt.txt"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--decode-tokens", type=int, default=64)
    parser.add_argument("--megabytes", type=int, default=1000, help="bandwidth buffer")
    parser.add_argument("--build", type=Path, default=Path("build"), help="folder for what is made")
    parser.add_argument("--peer-python", type=Path, help="a Python that has llama_cpp [built]")
    parser.add_argument("--no-peer", action="store_true", help="leave llama.cpp out")
    parser.add_argument("--no-eager", action="store_true", help="leave Hugging Face out")
    parser.add_argument("--json", action="store_true", help="print every sample as JSON")
    return parser.parse_args()


def _compile(options: argparse.Namespace) -> Path:
    artifact: Path = options.build / f"dense-{options.dtype}.spz"
    command = [sys.executable, "-m", "sparsecomp", "compile", str(options.model_dir)]
    command += ["-o", str(artifact), "--dtype", options.dtype, "--workers", str(options.threads)]
    if subprocess.run(command).returncode != 0:
        sys.exit("error: the model did not compile")
    return artifact


def _tokens(model_dir: Path, text: Path, decode_tokens: int) -> list[int]:
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    tokens: list[int] = tokenizer.encode(text.read_text()).ids
    needed = max(PREFILL_TOKENS, DECODE_PROMPT + decode_tokens)
    if len(tokens) < needed:
        sys.exit(f"error: {text} has {len(tokens)} tokens; {needed} are needed")
    return tokens


def _contenders(
    options: argparse.Namespace, artifact: Path, manifest: Manifest
) -> Iterable[Contender]:
    """The artifacts first: ratios are theirs over all others."""
    weight_bytes = sum(manifest.bytes_per_token.values())
    weights = weight_bytes * 8 / OUR_BITS[manifest.model.dtype]
    model_dir, capacity, threads = str(options.model_dir), "1024", str(options.threads)
    python = sys.executable
    ours = [python, script("contender_sparsecomp.py"), str(artifact), capacity]
    yield Contender(f"{OURS} {manifest.model.dtype}", ours, weight_bytes)
    if options.sparse:
        with Artifact.open(options.sparse) as opened:
            read = sum(opened.manifest.bytes_per_token.values())
        ours = [python, script("contender_sparsecomp.py"), str(options.sparse), capacity]
        yield Contender(f"{OURS} {options.sparse.name}", ours, read)
    if not options.no_peer:
        peer = options.peer_python or peer_python(options.build / "peer-venv")
        for kind in GGUF_KINDS[manifest.model.dtype]:
            gguf = _gguf(options, kind)
            command = [str(peer), script("contender_llama_cpp.py"), str(gguf), capacity, threads]
            yield Contender(f"llama.cpp {kind}", command, round(weights * GGUF_BITS[kind] / 8))
    if options.no_eager:
        return
    for dtype, size in (("bfloat16", 2), ("float32", 4)):
        command = [python, script("contender_hugging_face.py"), model_dir, dtype, threads]
        yield Contender(f"Hugging Face {dtype}", command, round(weights * size))


def _gguf(options: argparse.Namespace, kind: str) -> Path:
    path: Path = options.build / f"{options.model_dir.name}.{kind}.gguf"
    if not path.exists():
        from gguf_llama import write_gguf

        try:
            write_gguf(options.model_dir, path, kind)
        except ValueError as error:
            sys.exit(f"error: {error}; use --no-peer")
    return path


def _prefill_round(
    contenders: list[Contender], prompt: list[int], random: np.random.Generator
) -> list[Prefill]:
    found: dict[int, Prefill] = {}
    for place in random.permutation(len(contenders)):
        time.sleep(SETTLE_S)
        found[place] = contenders[place].prefill(prompt)
    return [found[place] for place in range(len(contenders))]


def _decode_round(
    contenders: list[Contender], tokens: list[int], count: int, random: np.random.Generator
) -> list[float]:
    """Each contender's seconds for `count` tokens of a stretch of the text drawn anew."""
    first = int(random.integers(len(tokens) - DECODE_PROMPT - count + 1))
    decoded = first + DECODE_PROMPT
    for contender in contenders:
        contender.prefill(tokens[first:decoded])
    seconds = [0.0] * len(contenders)
    for start in range(decoded, decoded + count, TURN):
        turn = tokens[start : min(start + TURN, decoded + count)]
        for place in random.permutation(len(contenders)):
            time.sleep(SETTLE_S)
            seconds[place] += contenders[place].decode(turn)
    return seconds


def _table(report: Report) -> str:
    decode, prefill = _faster(report, lambda s: s.decode), _faster(report, lambda s: s.prefill)
    lines = [
        f"{report.cpu}, {report.threads} threads, {len(report.bandwidth)} alternating rounds",
        f"read bandwidth: median {_spread(report.bandwidth)} GB/s",
        "",
        f"decode, {report.decode_tokens} tokens after {DECODE_PROMPT}, {TURN} in a turn (tokens/s; "
        "limit: read bandwidth over the bytes that a token reads; share: of the limit of the same "
        "round)",
    ]
    for samples in report.contenders:
        limits = [bandwidth * 1e9 / samples.bytes_per_token for bandwidth in report.bandwidth]
        share = median(a / b for a, b in zip(samples.decode, limits, strict=True))
        lines.append(
            f"  {samples.name:22} {_spread(samples.decode):24} "
            f"{samples.bytes_per_token / 1e6:6.1f} MB/token  "
            f"limit {median(limits):6.1f}  share {share:4.0%}"
        )
    lines += [*decode, "", f"prefill, {PREFILL_TOKENS} tokens (tokens/s)"]
    lines += [f"  {samples.name:22} {_spread(samples.prefill)}" for samples in report.contenders]
    found = {token for samples in report.contenders for token in samples.next_tokens}
    agree = "yes" if len(found) == 1 else "NO"
    lines += [*prefill, "", f"all contenders predict the same next token: {agree}"]
    return "\n".join(lines)


def _faster(report: Report, of: Callable[[Samples], list[float]]) -> list[str]:
    """How many times as fast ours are as the others, and the second of ours as the first."""
    lines = []
    for number, ours in enumerate(samples for samples in report.contenders if samples.is_ours):
        for other in report.contenders[:number] + report.contenders[number + 1 :]:
            if other.is_ours and number == 0:
                continue
            ratio = Ratio.of(1 / np.array(of(other)), 1 / np.array(of(ours)))
            lines.append(f"  {ours.name} over {other.name}: {ratio}")
    return lines


def _spread(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown CPU"


if __name__ == "__main__":
    main()
