"""The shape of a transformer: what it weighs, what it computes and what its KV cache takes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

import ray_jobs.engines.sim.model_config  # noqa: F401 (registers the resolver of conf/model_shape/from_config.yaml)
from tracking.errors import require

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass
class ModelShape:
    """A decoder-only transformer with grouped-query attention and gated feed-forward layers.

    Sizes are in elements. Experts of 0 mean a dense feed-forward layer; with experts,
    `intermediate_size` is that of one expert. `tensor_parallel` devices share every layer.

    With `config` the model is that file's, of any kind: its sizes here are for reading only, 0 where it has no such thing,
    and what it takes and computes is vLLM's to say (`kv_layout.py`).
    """

    name: str = MISSING
    architecture: str = MISSING  # the class vLLM knows it by
    model_type: str = MISSING  # its transformers configuration
    hidden_size: int = MISSING
    intermediate_size: int = MISSING
    layers: int = MISSING
    heads: int = MISSING
    kv_heads: int = MISSING
    head_dim: int = MISSING
    vocab_size: int = MISSING
    max_position: int = MISSING
    experts: int = 0
    experts_per_token: int = 0
    tied_embeddings: bool = False
    dtype: str = "bfloat16"
    tensor_parallel: int = 1
    source: str = ""  # where the numbers come from
    path: str | None = (
        None  # the config.json that all of it was read from, on the driver's machine; null = declared
    )
    config: dict[str, Any] = field(
        default_factory=dict
    )  # what that file says; a node of a cluster has no such file

    def __post_init__(self) -> None:
        key = "engine.sim.model_shape"
        require(self.dtype in DTYPE_BYTES, f"{key}.dtype", self.dtype, "one of " + ", ".join(DTYPE_BYTES))
        for name in ("hidden_size", "layers", "vocab_size", "tensor_parallel"):
            require(getattr(self, name) > 0, f"{key}.{name}", getattr(self, name), "> 0")
        if self.config:
            return
        for name in ("intermediate_size", "heads", "kv_heads", "head_dim", "max_position"):
            require(getattr(self, name) > 0, f"{key}.{name}", getattr(self, name), "> 0")
        require(
            self.heads % self.kv_heads == 0, f"{key}.kv_heads", self.kv_heads, f"a divisor of {self.heads}"
        )
        require(
            self.heads % self.tensor_parallel == 0,
            f"{key}.tensor_parallel", self.tensor_parallel, f"a divisor of {self.heads} heads",
        )  # fmt: skip
        require(
            0 <= self.experts_per_token <= self.experts and bool(self.experts) == bool(self.experts_per_token),
            f"{key}.experts_per_token", self.experts_per_token, f"from 1 to {self.experts} experts, or both 0",
        )  # fmt: skip

    @property
    def dtype_bytes(self) -> int:
        return DTYPE_BYTES[self.dtype]

    @property
    def attention_params(self) -> int:
        """Parameters of all attention projections."""
        return self.layers * self.hidden_size * self.head_dim * 2 * (self.heads + self.kv_heads)

    @property
    def feed_forward_params(self) -> int:
        """Parameters of all feed-forward layers; of one expert in each layer if there are experts."""
        return self.layers * 3 * self.hidden_size * self.intermediate_size

    @property
    def router_params(self) -> int:
        return self.layers * self.hidden_size * self.experts

    @property
    def head_params(self) -> int:
        """Parameters of the output projection."""
        return self.hidden_size * self.vocab_size

    @property
    def total_params(self) -> int:
        """All parameters but norms and biases, which are below 0.1 %."""
        embeddings = self.head_params * (1 if self.tied_embeddings else 2)
        return (
            self.attention_params
            + self.feed_forward_params * max(1, self.experts)
            + self.router_params
            + embeddings
        )

    @property
    def active_params(self) -> int:
        """Parameters of the layers that one token is multiplied with, the output projection left out."""
        active = self.feed_forward_params * max(1, self.experts_per_token)
        return self.attention_params + active + self.router_params

    @property
    def weight_bytes(self) -> int:
        """Of one device's share."""
        return self.total_params * self.dtype_bytes // self.tensor_parallel

    @property
    def kv_heads_per_device(self) -> int:
        """KV heads of one device; with more devices than heads, each head is held more than once."""
        return max(1, self.kv_heads // self.tensor_parallel)

    @property
    def kv_bytes_per_token(self) -> int:
        """KV cache of one token on one device."""
        return 2 * self.layers * self.kv_heads_per_device * self.head_dim * self.dtype_bytes

    def write_config(self, folder: Path, max_model_len: int) -> Path:
        """Writes the `config.json` that vLLM makes its configuration from; no weights, no tokenizer."""
        longest = {"max_position_embeddings": max(self.max_position, max_model_len)}
        config = dict(self.config) or self._made_config()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config | longest, indent=1))
        return folder

    def _made_config(self) -> dict[str, Any]:
        config = {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": self.tied_embeddings,
            "hidden_act": "silu",
            "torch_dtype": self.dtype,
        }
        if self.experts:
            config |= {"num_experts": self.experts, "num_experts_per_tok": self.experts_per_token}
        return config
