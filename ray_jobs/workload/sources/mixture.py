"""Requests drawn from a mixture of kinds, such as chat, summarisation and questions."""

from __future__ import annotations

import numpy as np

from ray_jobs.workload.config import WorkloadConfig
from ray_jobs.workload.lengths import draw_lengths
from ray_jobs.workload.source_config import ComponentConfig
from ray_jobs.workload.sources.shared.base import Draft, SegmentPrompt
from ray_jobs.workload.streams import stream

HAS_FILE = False


def drafts(config: WorkloadConfig, seed: int, vocab_size: int) -> list[Draft]:
    """`workload.num_requests` of them; a longer draw begins with the shorter one."""
    components, count = config.source.components, config.num_requests
    names = list(components)
    weights = np.array([components[name].weight for name in names])
    bounds = np.cumsum(weights)[:-1] / weights.sum()
    picks = np.searchsorted(bounds, stream(seed, "kinds").random(count), side="right")
    prompt_uniforms = stream(seed, "prompt lengths").random(count)
    output_uniforms = stream(seed, "output lengths").random(count)
    prompts, outputs = np.zeros(count, dtype=int), np.zeros(count, dtype=int)
    for index, name in enumerate(names):
        own = picks == index
        prompts[own] = draw_lengths(components[name].prompt, prompt_uniforms[own])
        outputs[own] = draw_lengths(components[name].output, output_uniforms[own])
    return [
        _draft(names[pick], components[names[pick]], number, int(prompts[number]), int(outputs[number]))
        for number, pick in enumerate(picks)
    ]


def _draft(
    name: str, component: ComponentConfig, number: int, prompt_tokens: int, output_tokens: int
) -> Draft:
    own = ("request", number)
    shared = min(component.shared_prefix, prompt_tokens - 1)
    if shared:
        prompt = SegmentPrompt((("prefix", name), own), (shared, prompt_tokens - shared), shared=True)
    else:
        prompt = SegmentPrompt((own,), (prompt_tokens,))
    return Draft(name, prompt, output_tokens, component.max_tokens, component.priority, component.deadline_s)
