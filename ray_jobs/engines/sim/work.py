"""What a model reads and computes in a step, whatever its layers are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray_jobs.engines.sim.shape import ModelShape


@dataclass(frozen=True)
class AttentionWork:
    """Layers of one kind. FLOPs are those of all devices, bytes those of one device, both over all of these layers."""

    flops_per_pair: int  # of a new token and one that it looks at
    bytes_per_token: int  # KV cache of one token
    prefill_flops_per_pair: int | None = None  # where prefills compute otherwise than decodes, as in MLA
    window: int | None = None  # tokens that a token looks back at; None = at all


@dataclass(frozen=True)
class Work:
    """FLOPs and bytes of weights are those of all devices. Embeddings are looked up, not read: they are in none."""

    flops_per_token: int  # all layers but attention itself
    flops_per_sample: int  # the output projection
    expert_bytes: int  # weights of routed experts
    other_bytes: int  # weights that every step reads
    missed: float  # share of the experts that a token does not use; 0 without experts
    activation_bytes: int  # of one token, over all layers
    attention: tuple[AttentionWork, ...]
    state_bytes: int = 0  # of a request's state-space layers on one device, read and written once a step
    state_flops: int = 0  # of a token in those layers


def declared_work(shape: ModelShape) -> Work:
    """Of a dense model, or one with experts in every layer, as `conf/model_shape` declares it."""
    experts = max(1, shape.experts)
    other = shape.attention_params + shape.router_params + shape.head_params
    return Work(
        flops_per_token=2 * shape.active_params,
        flops_per_sample=2 * shape.head_params,
        expert_bytes=shape.feed_forward_params * experts * shape.dtype_bytes,
        other_bytes=other * shape.dtype_bytes,
        missed=1 - shape.experts_per_token / experts if shape.experts else 0.0,
        activation_bytes=shape.layers * shape.hidden_size * shape.dtype_bytes,
        attention=(AttentionWork(4 * shape.layers * shape.heads * shape.head_dim, shape.kv_bytes_per_token),),
    )


@dataclass(frozen=True)
class Batch:
    """Sums over the requests of a step; numbers, or arrays of as many steps. `maximum` is max or np.maximum."""

    prefill: Any  # tokens
    decode: Any
    prefills: Any  # requests
    decodes: Any
    context: Any  # tokens computed before, of all requests
    prefill_context: Any  # of those that prefill
    maximum: Callable[[Any, Any], Any]

    def pairs(self, window: int | None) -> tuple[Any, Any]:
        """Pairs of a new token and one that it looks at: of all requests, and of those that prefill.

        Prefills of one step count as equally long, since a step record holds their sums only. A window bounds the
        mean context of all decodes and of all prefills: where one request is short and another long, that is too much.
        """
        each = self.maximum(self.prefills, 1)
        if window is None:
            prefill = self.prefill * (self.prefill_context + self.prefill / 2) / each
            return self.context - self.prefill_context + self.decode + prefill, prefill
        context, tokens = self.prefill_context / each, self.prefill / each
        growing = self._least(self.maximum(window - context, 0), tokens)  # tokens before the window is full
        prefill = self.prefills * (growing * (context + growing / 2) + (tokens - growing) * window)
        return self._decodes_see(window) + prefill, prefill

    def read(self, window: int | None) -> Any:
        """Tokens whose KV is read or written."""
        if window is None:
            return self.context + self.prefill + self.decode
        context = self.prefill_context / self.maximum(self.prefills, 1)
        return self._decodes_see(window) + self.prefills * self._least(context, window) + self.prefill

    def _decodes_see(self, window: int) -> Any:
        each = self.maximum(self.decodes, 1)
        mean = (self.context - self.prefill_context + self.decode) / each
        return self.decodes * self._least(mean, window)

    def _least(self, one: Any, other: Any) -> Any:
        return -self.maximum(-one, -other)
