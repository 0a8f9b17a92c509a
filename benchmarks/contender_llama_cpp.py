"""Contender: llama.cpp through its C interface. Arguments: GGUF CAPACITY THREADS."""

import sys

import llama_cpp
import numpy as np

from contender import serve

_NO_LOG = llama_cpp.llama_log_callback(lambda level, text, data: None)


class LlamaCppEngine:
    def __init__(self, gguf: str, capacity: int, threads: int) -> None:
        llama_cpp.llama_log_set(_NO_LOG, None)
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(
            gguf.encode(), llama_cpp.llama_model_default_params()
        )
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = capacity
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(model, params)
        self._memory = llama_cpp.llama_get_memory(self._context)

    def prefill(self, tokens: list[int]) -> int:
        llama_cpp.llama_memory_clear(self._memory, True)
        self._step(tokens)
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, (self._vocab_size,)).argmax())

    def decode(self, token: int) -> None:
        self._step([token])
        # Waits for the result, as the work may be asynchronous.
        llama_cpp.llama_get_logits_ith(self._context, -1)

    def _step(self, tokens: list[int]) -> None:
        ids = (llama_cpp.llama_token * len(tokens))(*tokens)
        status = llama_cpp.llama_decode(
            self._context, llama_cpp.llama_batch_get_one(ids, len(tokens))
        )
        if status != 0:
            sys.exit(f"error: llama_decode returned {status} for {len(tokens)} tokens")


if __name__ == "__main__":
    serve(LlamaCppEngine(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
