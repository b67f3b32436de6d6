"""A tiny Llama with seeded random weights: real to an engine, small enough for a CPU."""

from __future__ import annotations

import json
import math
from pathlib import Path


def make_tiny_llama(
    folder: str | Path,
    *,
    seed: int = 0,
    vocab_size: int = 2048,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    max_len: int = 4096,
) -> Path:
    """Writes `config.json` and `model.safetensors` (float32) to `folder`; the same arguments, the same bytes.

    Matrices are drawn with a standard deviation of 2 / sqrt(fan_in), the embedding with 1: with the
    usual small weights greedy decoding repeats one token, and comparing outputs proves little.
    """
    import torch
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    inner = 2 * hidden
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": hidden // heads,
        "vocab_size": vocab_size,
        "max_position_embeddings": max_len,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int, std: float | None = None) -> torch.Tensor:
        std = 2 / math.sqrt(columns) if std is None else std
        return torch.randn(rows, columns, generator=generator) * std

    weights = {"model.embed_tokens.weight": matrix(vocab_size, hidden, 1.0)}
    for layer in range(layers):
        name = f"model.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weights[f"{name}.self_attn.{part}.weight"] = matrix(hidden, hidden)
        weights[f"{name}.mlp.gate_proj.weight"] = matrix(inner, hidden)
        weights[f"{name}.mlp.up_proj.weight"] = matrix(inner, hidden)
        weights[f"{name}.mlp.down_proj.weight"] = matrix(hidden, inner)
        weights[f"{name}.input_layernorm.weight"] = torch.ones(hidden)
        weights[f"{name}.post_attention_layernorm.weight"] = torch.ones(hidden)
    weights["model.norm.weight"] = torch.ones(hidden)
    weights["lm_head.weight"] = matrix(vocab_size, hidden)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder
