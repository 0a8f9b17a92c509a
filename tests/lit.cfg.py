"""lit: runs the golden files, each of which says in its first line how."""

import os
import sys
from pathlib import Path

from lit.TestingConfig import TestingConfig

root = Path(__file__).parent.parent
sys.path[:0] = [str(root), str(root / "tests"), str(root / "tests" / "passes")]

from golden import GoldenTest  # noqa: E402

config: TestingConfig
config.name = "sparsecomp"
config.test_format = GoldenTest()
config.suffixes = [".mlir"]
config.test_source_root = str(root / "tests")
config.test_exec_root = str(root / "build" / "lit")
Path(config.test_exec_root).mkdir(parents=True, exist_ok=True)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in conftest.py
