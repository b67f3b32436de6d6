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


def write(folder, config):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(("config", "billions", "active"), [(QWEN3, 32.8, 31.2), (MIXTURE, 30.5, 2.73)])
def test_the_model_is_the_files_and_vllm_says_what_it_takes(tmp_path, config, billions, active):
    engine = engine_of(write(tmp_path / "models--Qwen--Qwen3" / "snapshots" / "0a1b", config))
    assert (engine.vocab_size, engine.model) == (151936, "Qwen3")
    assert engine.sim.model_shape.kv_heads == config["num_key_value_heads"]
    assert served_name(engine) == "Qwen/Qwen3"
    parts = build_parts(engine, tmp_path)
    work, head = parts.work, 151936 * config["hidden_size"]
    read = work.expert_bytes + work.other_bytes  # all weights but the input embedding, two bytes each
    assert read / 2e9 == pytest.approx(billions - head / 1e9, rel=0.01)
    assert work.flops_per_token / 2e9 == pytest.approx(active, rel=0.01)
    (group,) = parts.kv_cache_config.kv_cache_groups
    assert len(group.layer_names) == config["num_hidden_layers"] and parts.block_size == 16
    assert parts.block_bytes == 16 * 2 * 2 * 128 * config["num_key_value_heads"] * config["num_hidden_layers"]
    weights = 2 * (read / 2 + head)
    free = 84.9e9 * 0.9 - 3e9 - weights
    assert parts.kv_cache_config.num_blocks == pytest.approx(free / parts.block_bytes, rel=0.001)


def test_what_the_file_leaves_to_defaults_is_transformers_to_say(tmp_path):
    gpt2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": 6, "n_embd": 768}
    shape = engine_of(write(tmp_path, gpt2)).sim.model_shape
    assert (shape.layers, shape.hidden_size, shape.vocab_size, shape.heads) == (6, 768, 50257, 12)


def test_of_a_model_that_sees_images_it_is_the_language_model(tmp_path):
    text = {"model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 2}
    file = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text}
    shape = engine_of(
        write(tmp_path, file | {"vision_config": {}, "torch_dtype": "bfloat16"})
    ).sim.model_shape
    assert (shape.architecture, shape.layers, shape.dtype) == ("Gemma3ForCausalLM", 2, "bfloat16")
    assert shape.vocab_size == 262208 and "vision_config" not in shape.config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": None}, "lacks architectures"),
        ({"hidden_size": "1024"}, "not so hidden_size"),
        ({"num_attention_heads": 1.5}, "not so num_attention_heads"),
        ({"vocab_size": None}, "not so vocab_size"),
    ],
)
def test_a_file_that_says_too_little_is_one_line(tmp_path, changes, words):
    write(tmp_path, QWEN3 | changes)
    with pytest.raises(Exception) as caught:
        engine_of(tmp_path)
    line = plain(caught.value, CONF) or one_line(caught.value)
    assert line.startswith("engine.sim.model_shape.path=") and words in line and "\n" not in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "foo", "architectures": ["FooForCausalLM"]}, "must be a model that vLLM"),
        ({"num_hidden_layers": 100}, "leaves no memory for KV"),
        ({"num_hidden_layers": 62, "num_key_value_heads": 64}, "engine.max_model_len=4096: must fit"),
    ],
)
def test_a_model_that_vllm_cannot_serve_is_one_line_when_the_engine_starts(tmp_path, changes, words):
    engine = engine_of(write(tmp_path / "model", QWEN3 | changes))
    with pytest.raises(ValueError) as caught:
        build_parts(engine, tmp_path)
    line = one_line(caught.value)
    assert words in line and "\n" not in line and line.startswith("engine.")
