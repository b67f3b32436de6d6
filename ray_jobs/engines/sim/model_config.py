"""A model's shape from its own `config.json`, as Hugging Face has it: `model_shape@engine.sim.model_shape=from_config`.

`conf/model_shape/from_config.yaml` asks for each field by the resolver `model_config`, so that what is made of it, such as
`engine.vocab_size`, is composed like that of any other shape. What the model's layers keep and compute is not read here:
vLLM's own classes say it when an engine starts (`kv_layout.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

KEY = "engine.sim.model_shape.path"
SIZES = ("hidden_size", "num_hidden_layers", "vocab_size")
OTHERS = (
    "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size", "moe_intermediate_size",
    "num_experts_per_tok", "max_position_embeddings",
)  # fmt: skip
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
SHARED = (
    "dtype",
    "torch_dtype",
    "quantization_config",
    "tie_word_embeddings",
)  # of a model and its language model
CACHE_FOLDER = "models--"  # models--Qwen--Qwen3-32B/snapshots/<commit>/config.json, in Hugging Face's cache


def model_field(path: str | None, name: str) -> Any:
    """A field of `ModelShape`, read from the file at `path`, a `config.json` or its folder. Raises ValueError."""
    return shape_of(path)[name]


def shape_of(path: str | None) -> dict[str, Any]:
    """All fields; 0 where the model has no such thing. Raises ValueError if there is no such file, or no model in it."""
    file = config_file(path)
    whole = language_model(read_config(file))
    config = with_defaults(whole)
    wrong = [key for key in SIZES if not isinstance(config.get(key), int)]
    wrong += [key for key in (*OTHERS, *EXPERTS) if not isinstance(config.get(key) or 0, int)]
    if wrong:
        raise ValueError(
            f"{KEY}={path!r}: must have whole numbers for {', '.join(SIZES)}; not so {', '.join(wrong)}"
        )
    heads, hidden = config.get("num_attention_heads") or 0, config["hidden_size"]
    experts = next((config[key] for key in EXPERTS if config.get(key)), 0)
    name = model_name(file)
    return {
        "name": name.rpartition("/")[2],
        "architecture": whole["architectures"][0],
        "model_type": whole["model_type"],
        "hidden_size": hidden,
        "intermediate_size": (experts and config.get("moe_intermediate_size")) or config.get("intermediate_size") or 0,
        "layers": config["num_hidden_layers"],
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or (hidden // heads if heads else 0),
        "vocab_size": config["vocab_size"],
        "max_position": config.get("max_position_embeddings") or 0,
        "experts": experts,
        "experts_per_token": config.get("num_experts_per_tok") or 0,
        "tied_embeddings": bool(config.get("tie_word_embeddings", False)),
        "dtype": str(config.get("dtype") or config.get("torch_dtype") or "bfloat16").removeprefix("torch."),
        "source": f"config.json of {name}",
        "config": whole,
    }  # fmt: skip


def language_model(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration itself; of a model with other inputs, such as images, that of its language model."""
    if not isinstance(config.get("text_config"), Mapping):
        return dict(config)
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

    part = dict(config["text_config"])
    kind = part.setdefault("model_type", f"{config['model_type']}_text")
    if kind not in CLASSES:
        raise ValueError(
            f"{KEY}: model_type={kind!r} of its text_config: must be a language model that transformers knows"
        )
    shared = {key: config[key] for key in SHARED if config.get(key) is not None}
    return shared | part | {"architectures": [CLASSES[kind]]}


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """With what the file leaves to transformers' defaults, or has under older names."""
    if all(key in config for key in SIZES):
        return dict(config)
    from transformers import AutoConfig

    try:
        known = AutoConfig.for_model(**config)
    except (ValueError, KeyError, TypeError) as error:
        lacks = ", ".join(key for key in SIZES if key not in config)
        raise ValueError(f"{KEY}: the file lacks {lacks}, and transformers does not know its kind") from error
    found = {key: getattr(known, key, None) for key in (*SIZES, *OTHERS, *EXPERTS)}
    return {key: value for key, value in found.items() if value is not None} | dict(config)


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


def model_name(file: Path) -> str:
    """What `vllm serve` is given: the name on the hub if the file is in its cache, else the folder."""
    folder = file.absolute().parent
    for parent in folder.parents:
        if parent.name.startswith(CACHE_FOLDER):
            return parent.name.removeprefix(CACHE_FOLDER).replace("--", "/", 1)
    return str(folder)


OmegaConf.register_new_resolver("model_config", model_field, replace=True)
