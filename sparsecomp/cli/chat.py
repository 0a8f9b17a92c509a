"""A chat template, applied to one user message."""

import json
from datetime import datetime
from typing import NoReturn

from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sparsecomp.errors import SparsecompError


def render(template: str, message: str, special_tokens: dict[str, str]) -> str:
    """The prompt in which a user says `message` and the assistant's turn begins.

    `special_tokens` are the names a template may use, such as `bos_token`.
    The template comes from the artifact, so it runs in jinja2's sandbox.

    Raises SparsecompError when the template is broken or refuses the message.
    """
    # The settings transformers renders with, which templates are written for.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    try:
        return environment.from_string(template).render(
            messages=[{"role": "user", "content": message}],
            add_generation_prompt=True,
            **special_tokens,
        )
    except TemplateSyntaxError as error:
        raise SparsecompError(
            f"chat template, line {error.lineno}: {error.message}; run without --chat"
        ) from error
    except Exception as error:  # whatever a broken template provokes, it is not a bug here
        raise SparsecompError(f"chat template: {error}; run without --chat") from error


def special_tokens(tokenizer_config: str) -> dict[str, str]:
    """The special tokens (`bos_token` and so on) that a tokenizer_config.json names.

    Raises SparsecompError when the text is not a JSON object.
    """
    try:
        entries = dict(json.loads(tokenizer_config))
    except (ValueError, TypeError) as error:
        raise SparsecompError(f"tokenizer_config.json is not a JSON object: {error}") from error
    tokens = {}
    for name, value in entries.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            tokens[name] = content
    return tokens


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(reason: str) -> NoReturn:
    raise TemplateError(reason)
