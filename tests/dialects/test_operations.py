"""Every op of every dialect can be printed and read back; a new op needs an example here.

The calls of the aten dialect are made up from their schemas in test_schema.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from xdsl.ir import Dialect
from xdsl.parser import Parser
from xdsl.traits import Pure
from xdsl.utils.exceptions import ParseError, VerifyException

from sparsecomp.dialects import Aten, Exec, Spz, context
from sparsecomp.dialects.schema import CallOp

EXAMPLES = {
    dialect.name: (Path(__file__).parent / f"{dialect.name}.mlir").read_text()
    for dialect in (Aten, Spz, Exec)
}


@pytest.mark.parametrize("dialect", [Aten, Spz, Exec], ids=lambda d: d.name)
def test_every_op_has_an_example(dialect: Dialect) -> None:
    module = Parser(context(), EXAMPLES[dialect.name]).parse_module()
    shown = {type(op) for op in module.walk()}
    missing = [
        op.name for op in dialect.operations if op not in shown and not issubclass(op, CallOp)
    ]
    assert not missing


@pytest.mark.parametrize("dialect", [Aten, Spz, Exec], ids=lambda d: d.name)
def test_examples_are_read_back(dialect: Dialect) -> None:
    module = Parser(context(), EXAMPLES[dialect.name]).parse_module()
    module.verify()
    text = str(module)
    again = Parser(context(), text).parse_module()
    again.verify()
    assert str(again) == text
    # What is optional is in the examples, so that leaving it out shows.
    lines = [line for line in EXAMPLES[dialect.name].splitlines() if not line.startswith("//")]
    assert text.split() == ["builtin.module", "{", *" ".join(lines).split(), "}"]


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (
            "%0 = spz.attention %q, %k, %k {scale = 1.0 : f64} : "
            "tensor<?x4x8xf32>, tensor<?x3x8xf32>, tensor<?x3x8xf32> -> tensor<?x4x8xf32>",
            "attention heads do not fit",
        ),
        (
            "%0 = spz.attention %f, %f, %f {scale = 1.0 : f64} : "
            "tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>",
            "attention takes rows of heads",
        ),
        (
            "%0 = spz.rms_norm %f, @w : tensor<?x8xf32> -> tensor<?x8xf32>",
            "eps",
        ),
        (
            "%0 = spz.mlp %f, @w, @w {act = #spz<act sine>} : tensor<?x8xf32> -> tensor<?x8xf32>",
            "relu",
        ),
        *(
            (
                f"%0 = spz.select %f {{count = 2 : i64, {how}, probability = 0.1 : f64, "
                "density = 0.5 : f64, active = 0.5 : f64} : tensor<?x8xf32> -> tensor<?x8xi1>",
                "a probability is of plain scores, in one group of all units",
            )
            for how in ("group = 4 : i64", "group = 8 : i64, magnitude")
        ),
    ],
)
def test_wrong_ops_are_refused(op: str, reason: str) -> None:
    text = f"""func.func @f(%q: tensor<?x4x8xf32>, %k: tensor<?x3x8xf32>, %f: tensor<?x8xf32>) {{
      {op}
      func.return
    }}"""
    with pytest.raises((ParseError, VerifyException)) as refusal:
        Parser(context(), text).parse_module().verify()
    assert reason in str(refusal.value)


def test_what_writes_is_never_dead() -> None:
    lasting = {op.name for op in Spz.operations if not op.has_trait(Pure)}
    assert lasting == {"spz.cached_attention", "spz.all_reduce"}
