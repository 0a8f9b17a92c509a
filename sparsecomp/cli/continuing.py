"""What the commands that continue a prompt share: options, and what they say of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sparsecomp.runtime import TextStream, TokenStream

Command = Callable[..., Any]

SAMPLING = (
    click.option("--max-new-tokens", type=int, default=256, show_default=True),
    click.option("--temperature", type=float, default=0.0, show_default=True, help="0: greedy."),
    click.option("--top-k", type=int, default=0, show_default=True, help="0: off."),
    click.option("--top-p", type=float, default=1.0, show_default=True, help="1: off."),
    click.option("--seed", type=int, help="Makes sampling repeatable."),
    click.option("--stop", multiple=True, help="Text to stop before; may be repeated."),
)


def sampling_options(command: Command) -> Command:
    """Options named as the fields of `SamplingParams`."""
    for option in reversed(SAMPLING):
        command = option(command)
    return command


def echo_text(stream: TextStream, shown: bool) -> str:
    """The text, which goes to stdout as it comes where it is to be shown."""
    pieces = []
    for piece in stream:
        pieces.append(piece)
        if shown:
            click.echo(piece, nl=False)
    text = "".join(pieces)
    if shown and not text.endswith("\n"):
        click.echo("")
    return text


def record(text: str, stream: TextStream) -> dict[str, object]:
    """A run as JSON says it."""
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


def speed(tokens: TokenStream) -> str:
    """One line; the first new token comes from the prompt, so one fewer is decoded."""
    line = f"prompt: {tokens.prompt_tokens} tokens"
    line += _rate(tokens.prompt_tokens, tokens.prefill_seconds)
    line += f"; new: {tokens.new_tokens} tokens"
    return line + _rate(tokens.decode_steps, tokens.decode_seconds)


def _rate(count: int, seconds: float) -> str:
    return f" at {count / seconds:.1f} tokens/s" if count else ""
