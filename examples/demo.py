"""Compiles a model, streams text from the artifact, and times it beside Hugging Face.

python examples/demo.py models/smollm2-135m-instruct
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import sparsecomp.runtime as rt

PROMPT = "Once upon a time, in a village by the sea, there lived an old clockmaker who"
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--tokens", type=int, default=128, help="new tokens [%(default)s]")
    options = parser.parse_args()
    artifact = compile_artifact(options.model_dir)
    with rt.load(artifact) as model:
        stream(model, options.prompt, options.tokens)
        ours = sparsecomp(model, options.prompt, options.tokens)
        theirs = hugging_face(options.model_dir, options.prompt, options.tokens)
        # One after the other, round after round: a noisy neighbour disturbs both alike.
        rounds = [
            (speed(ours, options.tokens), speed(theirs, options.tokens)) for _ in range(ROUNDS)
        ]
    mine, other = (median(rates) for rates in zip(*rounds, strict=True))
    print(f"\n{options.tokens} new tokens, prompt included; the median of {ROUNDS} rounds:")
    print(f"sparsecomp, bfloat16           {mine:6.1f} tokens/s")
    print(f"Hugging Face eager, bfloat16   {other:6.1f} tokens/s")
    print(f"\nrun it yourself: sparsecomp run {artifact} --chat -p 'Why is the sea salt?'")


def compile_artifact(model_dir: Path) -> Path:
    """build/NAME.spz, compiled anew by the command line."""
    artifact = Path("build") / f"{model_dir.name}.spz"
    artifact.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "sparsecomp", "compile", str(model_dir)]
    if subprocess.run([*command, "-o", str(artifact)]).returncode != 0:
        sys.exit(1)
    return artifact


def stream(model: rt.Model, prompt: str, tokens: int) -> None:
    """Prints a continuation of the prompt as it comes."""
    print(f"\n{prompt}", end="", flush=True)
    for piece in model.stream(prompt, max_new_tokens=tokens):
        print(piece, end="", flush=True)
    print()


def sparsecomp(model: rt.Model, prompt: str, tokens: int) -> Callable[[], None]:
    """Generates `tokens` tokens greedily with the artifact."""
    params = rt.SamplingParams(max_new_tokens=tokens, ignore_eos=True)

    def generate() -> None:
        model.generate(prompt, params)

    return generate


def hugging_face(model_dir: Path, prompt: str, tokens: int) -> Callable[[], None]:
    """Generates `tokens` tokens greedily with the original model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16)
    inputs = AutoTokenizer.from_pretrained(model_dir)(prompt, return_tensors="pt")

    def generate() -> None:
        model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)

    model.generate(**inputs, max_new_tokens=2, do_sample=False)  # first-call costs
    return generate


def speed(generate: Callable[[], None], tokens: int) -> float:
    """Tokens per second of one run."""
    started = time.perf_counter()
    generate()
    return tokens / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
