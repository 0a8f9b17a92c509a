"""Chat templates: rendered as transformers does, and not trusted."""

import pytest

from sparsecomp.cli.chat import render
from sparsecomp.errors import SparsecompError

CHATML = """{{ bos_token }}{% for message in messages %}
    {% if message['role'] == 'user' %}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""


def test_one_user_turn() -> None:
    assert render(CHATML, "Hi", {"bos_token": "<s>"}) == (
        "<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_json_filter_keeps_letters() -> None:
    assert render("{{ messages | tojson }}", "é<", {}) == '[{"role": "user", "content": "é<"}]'


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% if %}", "chat template, line 1"),
        ("{{ raise_exception('no user turns') }}", "no user turns"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 'a' + 1 }}", "chat template: "),
        ("{{ missing.attribute }}", "'missing' is undefined"),
    ],
)
def test_refusals(template: str, message: str) -> None:
    with pytest.raises(SparsecompError, match=message):
        render(template, "Hi", {})
