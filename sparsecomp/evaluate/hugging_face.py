"""The dense original, as Hugging Face transformers runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from sparsecomp.errors import SparsecompError
from sparsecomp.evaluate.logits import Logits, Window
from sparsecomp.frontend.model_dir import ModelDir


class HuggingFaceLogits:
    """A model directory in float32: a window is one forward pass, its logits lie in memory."""

    def __init__(self, model_dir: str | Path) -> None:
        """Loads a directory or a Hub id. Raises SparsecompError when it holds no sound model."""
        self._location = str(model_dir)
        self._model = _load(ModelDir.open(model_dir))

    @property
    def name(self) -> str:
        return self._location

    def logits(self, window: Window) -> Iterator[Logits]:
        ids = torch.from_numpy(window.ids).long()[None]
        with torch.inference_mode():
            rows = self._model(input_ids=ids, use_cache=False).logits[0, window.first - 1 : -1]
        yield from rows.float().numpy()


def _load(model_dir: ModelDir) -> PreTrainedModel:
    loaded: Any
    try:
        with _quiet():
            loaded = AutoModelForCausalLM.from_pretrained(
                model_dir.path,
                dtype=torch.float32,
                # Spells out what other implementations leave out, such as soft caps.
                attn_implementation="eager",
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # the model's own code runs here and may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SparsecompError(f"model {model_dir.path}: cannot be loaded: {reason}") from error
    model: PreTrainedModel
    model, loading = loaded
    # Transformers fills what a checkpoint lacks with random numbers.
    for name in sorted(loading["missing_keys"]):
        raise SparsecompError(f"model {model_dir.path}: the checkpoint has no tensor {name}")
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it transformers draws no progress bar and warns of nothing."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
