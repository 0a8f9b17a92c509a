"""What the documents say of the code is true."""

from __future__ import annotations

import re
from pathlib import Path

from sparsecomp.passes.pipeline import PIPELINE

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/measurements.md")
ELSEWHERE = {
    "ir/exec.cuda.mlir",
    "native/program.cpp",
    "sparsecomp/passes/my_pass.py",
    "tests/passes/my-pass.mlir",
}
"""Names of files within an artifact, or that a reader would make."""


def test_the_pipeline_table_is_the_pipeline() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text.partition("## The pipeline")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (aten|spz|exec) \| ([a-z-]+) \|", table, flags=re.MULTILINE)
    assert rows == [(step.stage, step.run.name) for step in PIPELINE]


def test_files_that_are_named_exist() -> None:
    # `passes/pipeline.py` is named from the package, `tests/families.py` from the root.
    homes = (ROOT, ROOT / "sparsecomp", ROOT / "sparsecomp" / "passes")
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        names = re.findall(r"[`(]([\w./-]+\.(?:py|md|h|cpp|mlir|jinja))[`)]", text)
        assert names
        for name in names:
            exists = any((home / name).exists() for home in homes)
            assert exists or name in ELSEWHERE, f"{document}: {name}"
