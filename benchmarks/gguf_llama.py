"""Writes a Llama model directory as a GGUF file without a tokenizer, for llama.cpp.

Matrices become float16 or are quantised, all alike; norms stay float32.
"""

import json
from pathlib import Path

import gguf
import torch
from safetensors.torch import load_file

FILE_TYPES = {
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
}


def write_gguf(model_dir: Path, destination: Path, kind: str) -> None:
    """Writes `destination`, of a kind in FILE_TYPES; complete or not at all.

    Raises ValueError for other architectures.
    """
    config = json.loads((model_dir / "config.json").read_text())
    if config["architectures"] != ["LlamaForCausalLM"]:
        raise ValueError(f"{model_dir}: this writer knows LlamaForCausalLM only")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    partial = destination.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(FILE_TYPES[kind])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for shard in sorted(model_dir.glob("*.safetensors")):
        for name, tensor in load_file(shard).items():
            if name.endswith("q_proj.weight"):
                tensor = _interleave(tensor, heads)
            elif name.endswith("k_proj.weight"):
                tensor = _interleave(tensor, kv_heads)
            gguf_name = names.get_name(name, try_suffixes=(".weight",))
            if gguf_name is None:
                raise ValueError(f"{shard}: a Llama model has no tensor {name}")
            if tensor.ndim == 1 or kind == "f16":
                dtype = torch.float32 if tensor.ndim == 1 else torch.float16
                writer.add_tensor(gguf_name, tensor.to(dtype).numpy())
                continue
            quantised = gguf.GGMLQuantizationType[kind.upper()]
            values = gguf.quants.quantize(tensor.float().numpy(), quantised)
            writer.add_tensor(gguf_name, values, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(destination)


def _interleave(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows reordered from rotary halves (Hugging Face) to rotary pairs (llama.cpp)."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns).contiguous()
