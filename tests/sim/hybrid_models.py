"""Tiny models of each kind that vLLM caches differently, by their config.json; and engines that simulate them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sim_bench import compose_job

from ray_jobs.engines.config import EngineConfig

_COMMON: dict[str, Any] = {
    "vocab_size": 2048, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2,
    "head_dim": 32, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "torch_dtype": "float32",
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
_DELTA_NETS = {
    "linear_conv_kernel_dim": 4, "linear_key_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
    "linear_value_head_dim": 16, "full_attention_interval": 2, "partial_rotary_factor": 0.25,
}  # fmt: skip
_LATENT = {
    "kv_lora_rank": 32, "q_lora_rank": None, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32, "n_group": 1,
    "topk_group": 1, "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
    "first_k_dense_replace": 1, "routed_scaling_factor": 1.0, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
    "norm_topk_prob": True, "hidden_act": "silu",
}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    "windows": _COMMON | {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "num_hidden_layers": 4, "sliding_window": 64,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"], "query_pre_attn_scalar": 32,
        "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
    },
    "delta-nets": _COMMON | _DELTA_NETS | {
        "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "num_hidden_layers": 4, "num_experts": 8,
        "num_experts_per_tok": 2, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "hidden_act": "silu", "norm_topk_prob": True,
    },
    "latent": _COMMON | _LATENT | {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "num_hidden_layers": 2,
    },
    "mixture": _COMMON | {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_hidden_layers": 2, "num_experts": 8,
        "num_experts_per_tok": 2, "moe_intermediate_size": 64, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "hidden_act": "silu", "norm_topk_prob": True,
    },
}  # fmt: skip


def write_model(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def engine_of(folder: Path, *overrides: str) -> EngineConfig:
    """A simulated engine of the model in `folder`."""
    return compose_job(
        "model_shape@engine.sim.model_shape=from_config", f"engine.sim.model_shape.path={folder}", *overrides
    ).engine
