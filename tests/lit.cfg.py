"""lit: runs the golden files, `// RUN: sparsecomp-opt %s -p pass-name | filecheck %s`."""

import os
import sys
from pathlib import Path

import lit.formats
from lit.TestingConfig import TestingConfig

config: TestingConfig
root = Path(__file__).parent.parent
config.name = "sparsecomp"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir"]
config.test_source_root = str(root / "tests")
config.test_exec_root = str(root / "build" / "lit")
config.substitutions.append(("sparsecomp-opt", f"{sys.executable} -m sparsecomp opt"))
config.substitutions.append(
    ("print-spz", f"{sys.executable} {root / 'tests' / 'passes' / 'print_spz.py'}")
)
config.environment["PATH"] = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
)
config.environment["PYTHONPATH"] = os.pathsep.join([str(root), str(root / "tests")])
