"""The model that SGLang is started with where none is run: one layer, one head, and KV of a few bytes a token."""

from __future__ import annotations

import json
from pathlib import Path

WIDTH = 8  # of all its vectors

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": WIDTH,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}


def write_stand_in(folder: Path, vocab_size: int, max_len: int) -> Path:
    """Writes its `config.json`. What a scheduler reads of a model, its vocabulary and longest context, is as given."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"vocab_size": vocab_size, "max_position_embeddings": max_len}
    (folder / "config.json").write_text(json.dumps(CONFIG | own, indent=1))
    return folder
