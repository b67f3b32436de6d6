"""A model's shape from its own `config.json`, as Hugging Face has it: `model_shape@engine.sim.model_shape=from_config`.

`conf/model_shape/from_config.yaml` asks for each field by the resolver `model_config`, so that what is made of it, such as
`engine.vocab_size`, is composed like that of any other shape. What the simulator does not know is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

KEY = "engine.sim.model_shape.path"
DENSE = ("llama", "mistral", "qwen2", "qwen3", "phi3", "granite", "olmo2")
MIXTURES = ("mixtral", "qwen3_moe", "olmoe")
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)
EXPERTS = ("num_experts", "num_local_experts")
CACHE_FOLDER = "models--"  # models--Qwen--Qwen3-32B/snapshots/<commit>/config.json, in Hugging Face's cache


def model_field(path: str | None, name: str) -> Any:
    """A field of `ModelShape`, read from the file at `path`, a `config.json` or its folder. Raises ValueError."""
    return shape_of(path)[name]


def shape_of(path: str | None) -> dict[str, Any]:
    """All fields. Raises ValueError if there is no such file, or if it has what the simulator does not know."""
    file = config_file(path)
    config = read_config(file)
    for what in unknown(config):
        raise ValueError(
            f"{KEY}={path!r}: has {what}, which the simulator does not know; a shape of conf/model_shape "
            "that is about as large stands in for it"
        )
    needed = [key for key in SIZES if key != "intermediate_size" or not config.get("moe_intermediate_size")]
    wrong = [key for key in needed if not isinstance(config.get(key), int)]
    if wrong:
        raise ValueError(
            f"{KEY}={path!r}: must have whole numbers for {', '.join(needed)}; not so {', '.join(wrong)}"
        )
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    experts = next((config[key] for key in EXPERTS if config.get(key)), 0)
    name = model_name(file)
    return {
        "name": name.rpartition("/")[2],
        "architecture": config["architectures"][0],
        "model_type": config["model_type"],
        "hidden_size": hidden,
        "intermediate_size": config.get("moe_intermediate_size") if experts and config.get("moe_intermediate_size")
        else config["intermediate_size"],
        "layers": config["num_hidden_layers"],
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or hidden // heads,
        "vocab_size": config["vocab_size"],
        "max_position": config["max_position_embeddings"],
        "experts": experts,
        "experts_per_token": config["num_experts_per_tok"] if experts else 0,
        "tied_embeddings": bool(config.get("tie_word_embeddings", False)),
        "dtype": config.get("dtype") or config.get("torch_dtype") or "bfloat16",
        "source": f"config.json of {name}",
        "config": config,
    }  # fmt: skip


def config_file(path: str | None) -> Path:
    """The file itself. Raises ValueError if it is not there."""
    file = Path(path or "").expanduser()
    file = file / "config.json" if file.is_dir() else file
    if not path or not file.is_file():
        raise ValueError(f"{KEY}={path!r}: must be a model's config.json, or the folder that has it")
    return file


def read_config(file: Path) -> dict[str, Any]:
    """The configuration. Raises ValueError if it is not one of a language model."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{KEY}='{file}': must be JSON: {error}") from None
    needed = ("architectures", "model_type")
    missing = [key for key in needed if not isinstance(config, dict) or not config.get(key)]
    if missing:
        raise ValueError(f"{KEY}='{file}': must be a model's configuration; it lacks {', '.join(missing)}")
    return config


def unknown(config: Mapping[str, Any]) -> Iterator[str]:
    """What a model has that `ModelShape` has no word for, in words."""
    kind = model_type(config)
    if config.get("quantization_config") or config.get("compression_config"):
        yield "quantised weights"
    if config.get("kv_lora_rank"):
        yield "latent attention (MLA)"
    layers = set(config.get("layer_types") or ())
    if "linear_attention" in layers or "mamba" in kind or config.get("ssm_state_size"):
        yield "state-space layers (Mamba, gated delta nets)"
    windowed = config.get("sliding_window") and config.get(
        "use_sliding_window", kind not in ("qwen2", "qwen3")
    )
    if "sliding_attention" in layers or windowed:
        yield "sliding windows of attention"
    if "text_config" in config or "vision_config" in config:
        yield "images and other inputs"
    if config.get("shared_expert_intermediate_size") or config.get("n_shared_experts"):
        yield "experts that all tokens share"
    if (
        config.get("mlp_only_layers")
        or config.get("decoder_sparse_step", 1) != 1
        or config.get("first_k_dense_replace")
    ):
        yield "models of which only some layers have experts"
    if kind not in (*DENSE, *MIXTURES):
        yield f"model_type={kind} (it knows {', '.join((*DENSE, *MIXTURES))})"


def model_type(config: Mapping[str, Any]) -> str:
    return str(config["model_type"])


def model_name(file: Path) -> str:
    """What `vllm serve` is given: the name on the hub if the file is in its cache, else the folder."""
    folder = file.absolute().parent
    for parent in folder.parents:
        if parent.name.startswith(CACHE_FOLDER):
            return parent.name.removeprefix(CACHE_FOLDER).replace("--", "/", 1)
    return str(folder)


OmegaConf.register_new_resolver("model_config", model_field, replace=True)
