"""`sparsecomp run`: generate text with an artifact."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sparsecomp.cli.continuing import echo_text, record, sampling_options, speed
from sparsecomp.cli.device import device_option
from sparsecomp.errors import SparsecompError

if TYPE_CHECKING:
    from sparsecomp.runtime import Model


@click.command("run")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("-p", "--prompt", required=True, help="The text to continue.")
@sampling_options
@click.option("--chat", is_flag=True, help="Make the prompt a user's turn of a chat.")
@device_option
@click.option(
    "--allow-native", is_flag=True, help="Run code that was not compiled on this machine."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end instead.")
def run_verb(
    artifact: Path,
    prompt: str,
    chat: bool,
    device: str,
    allow_native: bool,
    as_json: bool,
    **sampling: Any,
) -> None:
    """Continue a prompt with ARTIFACT, streaming the text to stdout."""
    import sparsecomp.runtime as rt

    params = rt.SamplingParams(**sampling)
    with rt.load(artifact, allow_native=allow_native, device=device) as model:
        stream = model.stream(_chat_tokens(model, prompt) if chat else prompt, params)
        text = echo_text(stream, shown=not as_json)
    if as_json:
        click.echo(json.dumps(record(text, stream), ensure_ascii=False, indent=2))
    click.echo(speed(stream.tokens), err=True)


def _chat_tokens(model: "Model", message: str) -> list[int]:
    from sparsecomp.cli.chat import render, special_tokens
    from sparsecomp.runtime.artifact import TOKENIZER_CONFIG

    if model.chat_template is None:
        raise SparsecompError(f"{model.artifact.path}: has no chat template; run without --chat")
    names = model.artifact.member_names
    config = model.artifact.read_text(TOKENIZER_CONFIG) if TOKENIZER_CONFIG in names else "{}"
    text = render(model.chat_template, message, special_tokens(config))
    return model.encode(text, add_special_tokens=False)
