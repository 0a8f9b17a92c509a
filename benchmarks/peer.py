"""llama.cpp in a virtual environment of its own, built for a fair comparison."""

import os
import subprocess
import sys
from pathlib import Path

PACKAGE = "llama-cpp-python==0.3.36"
# This machine's instruction sets but AMX, which crashes llama.cpp in some virtual machines.
FLAGS = {
    "avx": "GGML_AVX",
    "avx2": "GGML_AVX2",
    "fma": "GGML_FMA",
    "f16c": "GGML_F16C",
    "bmi2": "GGML_BMI2",
    "avx_vnni": "GGML_AVX_VNNI",
    "avx512f": "GGML_AVX512",
    "avx512vbmi": "GGML_AVX512_VBMI",
    "avx512_vnni": "GGML_AVX512_VNNI",
    "avx512_bf16": "GGML_AVX512_BF16",
}


def peer_python(venv: Path) -> Path:
    """The interpreter of `venv`, in which llama_cpp can be imported; builds it when missing.

    The build takes several minutes. Exits with a line when it fails.
    """
    python = venv / "bin" / "python"
    finished = venv / ".ready"
    if finished.exists():
        return python
    print(f"building {PACKAGE} in {venv} (several minutes)", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
    # --no-cache-dir: pip's cache may hold a wheel that was built with other flags.
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    command += ["--no-binary", "llama-cpp-python", PACKAGE]
    if subprocess.run(command, env=os.environ | {"CMAKE_ARGS": cmake_args()}).returncode != 0:
        sys.exit(f"error: {PACKAGE} did not build; use --peer-python or --no-peer")
    finished.touch()
    return python


def cmake_args() -> str:
    """CMake arguments that name this CPU's instruction sets one by one."""
    cpuinfo = Path("/proc/cpuinfo")
    present: set[str] = set()
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("flags"):
            present = set(line.partition(":")[2].split())
            break
    options = [f"-D{option}=ON" for flag, option in FLAGS.items() if flag in present]
    # Without x86 flags (another machine), llama.cpp's own detection is the better choice.
    return " ".join(["-DGGML_NATIVE=OFF", *options]) if options else "-DGGML_NATIVE=ON"
