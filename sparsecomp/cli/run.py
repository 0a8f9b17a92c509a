"""`sparsecomp run`: generate text with an artifact."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparsecomp.errors import SparsecompError

if TYPE_CHECKING:
    from sparsecomp.runtime import Model, TextStream, TokenStream


@click.command("run")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("-p", "--prompt", required=True, help="The text to continue.")
@click.option("--max-new-tokens", type=int, default=256, show_default=True)
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0: greedy.")
@click.option("--top-k", type=int, default=0, show_default=True, help="0: off.")
@click.option("--top-p", type=float, default=1.0, show_default=True, help="1: off.")
@click.option("--seed", type=int, help="Makes sampling repeatable.")
@click.option("--stop", multiple=True, help="Text to stop before; may be repeated.")
@click.option("--chat", is_flag=True, help="Make the prompt a user's turn of a chat.")
@click.option(
    "--allow-native", is_flag=True, help="Run native code that was not compiled on this machine."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end instead.")
def run_verb(
    artifact: Path,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int | None,
    stop: tuple[str, ...],
    chat: bool,
    allow_native: bool,
    as_json: bool,
) -> None:
    """Continue a prompt with ARTIFACT, streaming the text to stdout."""
    import sparsecomp.runtime as rt

    params = rt.SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        max_new_tokens=max_new_tokens,
        stop=stop,
    )
    with rt.load(artifact, allow_native=allow_native) as model:
        stream = model.stream(_chat_tokens(model, prompt) if chat else prompt, params)
        pieces = []
        for piece in stream:
            pieces.append(piece)
            if not as_json:
                click.echo(piece, nl=False)
    text = "".join(pieces)
    if as_json:
        click.echo(json.dumps(_record(text, stream), ensure_ascii=False, indent=2))
    else:
        click.echo("" if text.endswith("\n") else "\n", nl=False)
    _print_speed(stream.tokens)


def _chat_tokens(model: "Model", message: str) -> list[int]:
    from sparsecomp.cli.chat import render, special_tokens
    from sparsecomp.runtime.artifact import TOKENIZER_CONFIG

    if model.chat_template is None:
        raise SparsecompError(f"{model.artifact.path}: has no chat template; run without --chat")
    names = model.artifact.member_names
    config = model.artifact.read_text(TOKENIZER_CONFIG) if TOKENIZER_CONFIG in names else "{}"
    text = render(model.chat_template, message, special_tokens(config))
    return model.encode(text, add_special_tokens=False)


def _record(text: str, stream: "TextStream") -> dict[str, object]:
    tokens = stream.tokens
    return {
        "text": text,
        "finish_reason": stream.finish_reason,
        "prompt_tokens": tokens.prompt_tokens,
        "new_tokens": tokens.new_tokens,
        "decode_steps": tokens.decode_steps,
        "prefill_seconds": tokens.prefill_seconds,
        "decode_seconds": tokens.decode_seconds,
    }


def _print_speed(tokens: "TokenStream") -> None:
    """One line on stderr; the first new token comes from the prompt, so one fewer is decoded."""
    line = f"prompt: {tokens.prompt_tokens} tokens"
    line += _rate(tokens.prompt_tokens, tokens.prefill_seconds)
    line += f"; new: {tokens.new_tokens} tokens"
    click.echo(line + _rate(tokens.decode_steps, tokens.decode_seconds), err=True)


def _rate(count: int, seconds: float) -> str:
    return f" at {count / seconds:.1f} tokens/s" if count else ""
