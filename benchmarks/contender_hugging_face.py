"""Contender: transformers in eager mode with its KV cache. Arguments: MODEL_DIR DTYPE THREADS."""

import sys

import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils.logging import disable_progress_bar

from contender import serve


class HuggingFaceEngine:
    def __init__(self, model_dir: str, dtype: str, threads: int) -> None:
        torch.set_num_threads(threads)
        disable_progress_bar()
        self._model = AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=getattr(torch, dtype)
        ).eval()
        self._cache = DynamicCache()

    def prefill(self, tokens: list[int]) -> int:
        self._cache = DynamicCache()
        return int(self._step(tokens).argmax())

    def decode(self, token: int) -> None:
        self._step([token])

    @torch.inference_mode()
    def _step(self, tokens: list[int]) -> torch.Tensor:
        """Logits after the last token (the only ones computed), shape (vocab,)."""
        output = self._model(
            input_ids=torch.tensor([tokens]), past_key_values=self._cache, logits_to_keep=1
        )
        logits: torch.Tensor = output.logits[0, -1]
        return logits


if __name__ == "__main__":
    serve(HuggingFaceEngine(sys.argv[1], sys.argv[2], int(sys.argv[3])))
