"""A model by its own config.json: the shape is that file's, and what the simulator does not know is refused."""

from __future__ import annotations

import json

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ray_jobs.run  # noqa: F401 (registers the schema)
from ray_jobs.advise.serving import model_name as served_name
from ray_jobs.engines.sim.build import build_parts
from tracking.cli import CONF, one_line
from tracking.nearest import plain

QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128, "hidden_act": "silu",
    "hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64, "num_attention_heads": 64,
    "num_key_value_heads": 8, "vocab_size": 151936, "max_position_embeddings": 40960, "sliding_window": None,
    "use_sliding_window": False, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
MIXTURE = QWEN3 | {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048, "moe_intermediate_size": 768,
    "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_attention_heads": 32,
    "num_key_value_heads": 4, "mlp_only_layers": [], "decoder_sparse_step": 1,
}  # fmt: skip


def engine_of(path):
    words = [
        "engine=vllm_sim", "model_shape@engine.sim.model_shape=from_config", f"engine.sim.model_shape.path={path}",
        "engine.max_model_len=4096",
    ]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("config", words)).engine


@pytest.mark.parametrize(("config", "billions", "active"), [(QWEN3, 32.8, 31.2), (MIXTURE, 30.5, 2.73)])
def test_the_shape_is_the_files_and_vllm_takes_it(tmp_path, config, billions, active):
    folder = tmp_path / "models--Qwen--Qwen3" / "snapshots" / "0a1b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    engine = engine_of(folder)
    shape = engine.sim.model_shape
    assert shape.total_params / 1e9 == pytest.approx(billions, rel=0.02)
    assert shape.active_params / 1e9 == pytest.approx(active, rel=0.05)
    assert (engine.vocab_size, engine.model, shape.kv_heads) == (
        151936,
        "Qwen3",
        config["num_key_value_heads"],
    )
    assert served_name(engine) == "Qwen/Qwen3"
    model = build_parts(engine, tmp_path).vllm_config.model_config
    assert model.get_head_size() == 128 and model.hf_config.num_hidden_layers == config["num_hidden_layers"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sliding_window": 4096, "use_sliding_window": True}, "sliding windows"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding windows"),
        ({"kv_lora_rank": 512, "model_type": "deepseek_v3"}, "MLA"),
        ({"layer_types": ["linear_attention"], "model_type": "qwen3_next"}, "Mamba"),
        ({"model_type": "mamba2", "ssm_state_size": 16}, "Mamba"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantised"),
        ({"text_config": {}, "model_type": "gemma3"}, "images"),
        ({"shared_expert_intermediate_size": 8, "model_type": "qwen2_moe"}, "experts that all tokens share"),
        ({"mlp_only_layers": [0], "num_experts": 8}, "only some layers"),
        ({"model_type": "gpt2"}, "model_type=gpt2"),
        ({"architectures": None}, "lacks architectures"),
        ({"num_attention_heads": None}, "not so num_attention_heads"),
        ({"hidden_size": "1024"}, "not so hidden_size"),
    ],
)
def test_what_the_simulator_does_not_know_is_one_line(tmp_path, changes, words):
    (tmp_path / "config.json").write_text(json.dumps(QWEN3 | changes))
    with pytest.raises(Exception) as caught:
        engine_of(tmp_path)
    line = plain(caught.value, CONF) or one_line(caught.value)
    assert line.startswith("engine.sim.model_shape.path=") and words in line and "\n" not in line
