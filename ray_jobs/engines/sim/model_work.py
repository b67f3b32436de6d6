"""What vLLM's own model reads and computes in a step, from its modules and the specs of its KV cache."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray_jobs.engines.sim.work import AttentionWork, Work

STATE_FLOPS = 8  # per element of a state and token: decay, two products and an update


def parameter_bytes(model: Any) -> int:
    """Of one device. Weights that two modules share count once."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def model_work(model: Any, config: Any, layers: Mapping[str, Any], specs: Mapping[str, Any]) -> Work:
    """`layers` are those with a KV cache or a state, by name, and `specs` what each of them keeps."""
    from vllm.model_executor.layers.linear import LinearBase
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding

    devices = config.parallel_config.tensor_parallel_size
    text = config.model_config.hf_text_config
    modules = list(model.modules())
    heads = [module for module in modules if isinstance(module, ParallelLMHead)]
    embeddings = [module for module in modules if isinstance(module, VocabParallelEmbedding)]
    experts = [module for module in modules if has_experts(module)]
    elements = sum(linear_elements(module) for module in modules if isinstance(module, LinearBase))
    elements += sum(3 * used_experts(module) * expert_size(module) for module in experts)
    expert_bytes = sum(map(own_bytes, experts))
    # A model without a head of its own reads the embedding for it.
    looked_up = unique_bytes(embeddings) - unique_bytes(heads) if heads else 0
    return Work(
        flops_per_token=2 * elements * devices,
        flops_per_sample=2 * text.vocab_size * text.hidden_size,
        expert_bytes=expert_bytes * devices,
        other_bytes=(parameter_bytes(model) - expert_bytes - looked_up) * devices,
        missed=1 - used_experts(experts[0]) / experts[0].moe_config.num_experts if experts else 0.0,
        activation_bytes=text.num_hidden_layers * text.hidden_size * config.model_config.dtype.itemsize,
        attention=attention_work(layers, specs, devices),
        state_bytes=sum(spec.page_size_bytes for spec in specs.values() if has_state(spec)),
        state_flops=STATE_FLOPS * devices * sum(map(state_elements, specs.values())),
    )


def attention_work(
    layers: Mapping[str, Any], specs: Mapping[str, Any], devices: int
) -> tuple[AttentionWork, ...]:
    """Layers that look back equally far, and cache as much, as one kind."""
    kinds: Counter[AttentionWork] = Counter()
    for name, spec in specs.items():
        if not has_state(spec):
            kinds[layer_work(layers[name], spec, devices)] += 1
    return tuple(times(kind, count) for kind, count in kinds.items())


def layer_work(layer: Any, spec: Any, devices: int) -> AttentionWork:
    """One layer with a KV cache. MLA's decodes work on the latent vector, its prefills on the heads made of it."""
    heads = layer.num_heads * devices
    window = getattr(spec, "sliding_window", None) or getattr(spec, "attention_chunk_size", None)
    cached = spec.page_size_bytes // spec.block_size
    if hasattr(layer, "kv_lora_rank"):
        decode = 2 * heads * (layer.head_size + layer.kv_lora_rank)
        prefill = 2 * heads * (layer.qk_nope_head_dim + layer.qk_rope_head_dim + layer.v_head_dim)
        return AttentionWork(decode, cached, prefill, window)
    return AttentionWork(4 * heads * layer.head_size, cached, None, window)


def times(kind: AttentionWork, layers: int) -> AttentionWork:
    prefill = kind.prefill_flops_per_pair
    return replace(
        kind,
        flops_per_pair=layers * kind.flops_per_pair,
        bytes_per_token=layers * kind.bytes_per_token,
        prefill_flops_per_pair=None if prefill is None else layers * prefill,
    )


def has_state(spec: Any) -> bool:
    return hasattr(spec, "mamba_type")


def state_elements(spec: Any) -> int:
    return sum(math.prod(shape) for shape in spec.shapes) if has_state(spec) else 0


def has_experts(module: Any) -> bool:
    return any(name.startswith("w13_") for name, _ in module.named_parameters(recurse=False))


def used_experts(module: Any) -> int:
    return module.moe_config.experts_per_token


def expert_size(module: Any) -> int:
    """Elements of one of the three matrices of an expert, on one device."""
    return module.moe_config.hidden_dim * module.moe_config.intermediate_size_per_partition


def linear_elements(module: Any) -> int:
    """Elements of a matrix on one device, however many bits each of them has."""
    rows = getattr(module, "input_size_per_partition", module.input_size)
    return rows * getattr(module, "output_size_per_partition", module.output_size)


def own_bytes(module: Any) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters(recurse=False))


def unique_bytes(modules: Sequence[Any]) -> int:
    """Weights that two of them share count once."""
    parameters = {id(p): p for module in modules for p in module.parameters(recurse=False)}
    return sum(p.numel() * p.element_size() for p in parameters.values())
