"""Imports go one way, and the runtime stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sparsecomp

ROOT = Path(sparsecomp.__file__).parent
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "observer": set(),
    "options": {"errors"},
    "nibbles": set(),
    "sketches": set(),
    "trellis": {"sketches"},
    "rounding": {"nibbles"},
    "sketch_rounding": {"sketches", "trellis", "rounding"},
    "sparsity": {"sketches", "errors"},
    "recipe": {"sparsity", "errors"},
    "texts": {"errors"},
    "dialects": {"dialects", "nibbles", "sketches", "sparsity", "errors"},
    "frontend": {"frontend", "dialects", "options", "errors"},
    "passes": {"passes", "dialects", "nibbles", "sketches", "sparsity", "options", "errors"},
    "reference": {
        "reference",
        "dialects",
        "nibbles",
        "rounding",
        "sketches",
        "sketch_rounding",
        "errors",
    },
    "codegen": {
        "codegen",
        "dialects",
        "nibbles",
        "sketches",
        "options",
        "rounding",
        "sketch_rounding",
        "errors",
    },
    "runtime": {"runtime", "sparsity", "errors"},
    "distributed": {"distributed", "cli", "runtime", "errors"},
    "report": {"report", "runtime", "sparsity", "errors"},
    "evaluate": {
        "evaluate",
        "calibrate",
        "frontend",
        "passes",
        "reference",
        "runtime",
        "texts",
        "observer",
        "errors",
    },
    "calibrate": {
        "calibrate",
        "nibbles",
        "dialects",
        "options",
        "reference",
        "passes",
        "recipe",
        "rounding",
        "sketches",
        "sketch_rounding",
        "sparsity",
        "texts",
        "observer",
        "errors",
    },
    "sparsify": {
        "sparsify",
        "calibrate",
        "evaluate",
        "options",
        "passes",
        "recipe",
        "runtime",
        "sparsity",
        "texts",
        "observer",
        "errors",
    },
}
"""What each part may import of the package; `compile`, `opt.py` and `cli` see all of it."""
LAYOUT = {
    Path("codegen", f"{name}.py")
    for name in ("account", "contexts/attention", "counters", "emit", "pack", "triton/program")
}
"""They write what the runtime reads, so they import its definition."""
RUNTIME_PACKAGES = {"numpy", "tokenizers"}
HEAVY = {"torch", "xdsl", "triton", "cuda", "transformers", "jinja2", "safetensors"}

FILES = sorted(file.relative_to(ROOT) for file in ROOT.rglob("*.py"))


def part_of(file: Path) -> str:
    """The directory below the package, or the module right in it."""
    return file.parts[0].removesuffix(".py")


def imported(file: Path) -> set[str]:
    """All that a file imports, anywhere in it, by full names: modules, and names from modules."""
    package = ("sparsecomp", *file.parts[:-1])
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def own_parts(file: Path) -> set[str]:
    """The parts of sparsecomp that a file imports; __version__ and the like are no part."""
    parts = {part_of(other) for other in FILES}
    names = (name.split(".") for name in imported(file))
    return {name[1] for name in names if name[0] == "sparsecomp" and len(name) > 1} & parts


@pytest.mark.parametrize("file", [f for f in FILES if part_of(f) in ALLOWED], ids=str)
def test_imports_go_one_way(file: Path) -> None:
    allowed = ALLOWED[part_of(file)] | ({"runtime"} if file in LAYOUT else set())
    assert own_parts(file) <= allowed


@pytest.mark.parametrize("file", [f for f in FILES if part_of(f) == "runtime"], ids=str)
def test_the_runtime_needs_little(file: Path) -> None:
    packages = {name.split(".")[0] for name in imported(file)} - {"sparsecomp"}
    if file == Path("runtime", "cuda.py"):  # when a GPU is asked for
        packages.remove("cuda")
    assert packages - sys.stdlib_module_names <= RUNTIME_PACKAGES


def test_only_the_command_line_imports_the_compiler() -> None:
    assert {part_of(file) for file in FILES if "compile" in own_parts(file)} <= {
        "cli",
        "compile",
        "__init__",
        "__main__",
    }


def test_importing_the_runtime_imports_nothing_heavy() -> None:
    code = "import sys, sparsecomp.runtime as rt; rt.load; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "sparsecomp.runtime.model" in done.stdout.split()
    assert not {name.split(".")[0] for name in done.stdout.split()} & HEAVY
