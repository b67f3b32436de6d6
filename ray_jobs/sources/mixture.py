"""Requests drawn from a mixture of kinds, such as chat, summarisation and questions."""

from __future__ import annotations

import numpy as np

from ray_jobs.lengths import draw_lengths
from ray_jobs.sources.base import Draft, SegmentPrompt
from ray_jobs.streams import stream
from ray_jobs.workload_config import ComponentConfig, SourceConfig


def mixture_drafts(config: SourceConfig, count: int, seed: int) -> list[Draft]:
    """`count` requests; a longer draw begins with the shorter one."""
    names = list(config.components)
    weights = np.array([config.components[name].weight for name in names])
    bounds = np.cumsum(weights)[:-1] / weights.sum()
    picks = np.searchsorted(bounds, stream(seed, "kinds").random(count), side="right")
    prompt_uniforms = stream(seed, "prompt lengths").random(count)
    output_uniforms = stream(seed, "output lengths").random(count)
    prompts, outputs = np.zeros(count, dtype=int), np.zeros(count, dtype=int)
    for index, name in enumerate(names):
        own = picks == index
        prompts[own] = draw_lengths(config.components[name].prompt, prompt_uniforms[own])
        outputs[own] = draw_lengths(config.components[name].output, output_uniforms[own])
    return [
        _draft(
            names[pick], config.components[names[pick]], number, int(prompts[number]), int(outputs[number])
        )
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
