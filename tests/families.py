"""Tiny random models of many families, saved as Hugging Face directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA | {"sliding_window": 5},
    "qwen2": _LLAMA,
    "qwen3": _LLAMA | {"head_dim": 8},
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
        "max_position_embeddings": 64,
    },
    "gpt2": _GPT2,
    "gpt_neox": _LLAMA | {"rotary_pct": 0.5},
    "phi": _LLAMA | {"partial_rotary_factor": 0.5},
    "gemma": _LLAMA | {"head_dim": 8},
    "gemma2": _LLAMA | {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8},
    "gemma3_text": _LLAMA | {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8},
    "olmo": _LLAMA,
    "olmo2": _LLAMA,
    "cohere": _LLAMA,
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "falcon": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_hidden_size": 48,
        "max_position_embeddings": 64,
    },
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64},
    "granite": _LLAMA
    | {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    "stablelm": _LLAMA | {"partial_rotary_factor": 0.5},
    "starcoder2": _LLAMA,
    "gptj": _GPT2 | {"rotary_dim": 4},
    "phi3": _LLAMA,
    "arcee": _LLAMA,
    "smollm3": _LLAMA,
    "nemotron": _LLAMA,
    "olmo3": _LLAMA | {"sliding_window": 5},
    "cohere2": _LLAMA | {"sliding_window": 5},
    "glm": _LLAMA | {"head_dim": 8},
    "glm4": _LLAMA | {"head_dim": 8},
    "gpt_bigcode": _GPT2,
    "codegen": _GPT2 | {"rotary_dim": 4},
    "biogpt": _LLAMA,
    "diffllama": _LLAMA,
    "mixtral": _LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": _LLAMA
    | {"head_dim": 8, "sliding_window": 5, "num_local_experts": 4, "num_experts_per_tok": 2},
    "xglm": {
        "d_model": 32,
        "ffn_dim": 48,
        "num_layers": 2,
        "attention_heads": 4,
        "max_position_embeddings": 64,
    },
}

# Ids that a tiny vocabulary has; most configs' defaults are beyond it.
_SHARED = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def make_model_dir(
    family: str, path: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any
) -> Path:
    """Save a random model of `family` under `path`; `overrides` are fields of its config.

    Weights are large enough for attention and MLP to show in the logits: matrices of standard
    deviation 0.15, norm weights near 1, no bias zero.
    """
    kwargs = FAMILIES[family] | _SHARED | overrides
    config = AutoConfig.for_model(family, **kwargs)
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(0.15 * noise)
            elif name.endswith("weight"):
                parameter.copy_(parameter.mean().round() + 0.1 * noise)
            else:
                parameter.copy_(0.1 * noise)
    model.to(dtype).save_pretrained(path)
    return path
