"""Print @decode of a family's tiny model (one layer) after derive-decode."""

import tempfile
from pathlib import Path


def main(family: str) -> None:
    from families import make_model_dir
    from tiny import load

    with tempfile.TemporaryDirectory() as directory:
        model = load(make_model_dir(family, Path(directory) / "model", num_hidden_layers=1))
        model.run()
    print(model.function("decode"))
