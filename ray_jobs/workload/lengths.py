"""Lengths of prompts and outputs, and what clients declare about them."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr, ndtri

from ray_jobs.workload.config import DeclaredConfig
from ray_jobs.workload.length_config import DurationConfig, LengthConfig


def draw_lengths(config: LengthConfig, uniforms: np.ndarray) -> np.ndarray:
    """One token count for each uniform number in [0, 1), from the lognormal truncated to [min, max]."""
    if config.sigma == 0:
        return np.full(len(uniforms), round(config.median), dtype=np.int64)
    low, high = (
        ndtr(math.log(bound / config.median) / config.sigma) for bound in (config.min - 0.5, config.max + 0.5)
    )
    lengths = config.median * np.exp(config.sigma * ndtri(low + uniforms * (high - low)))
    return np.clip(np.rint(lengths), config.min, config.max).astype(np.int64)


def draw_durations(config: DurationConfig, uniforms: np.ndarray) -> np.ndarray:
    """Seconds, one for each uniform number in [0, 1)."""
    return np.minimum(config.median * np.exp(config.sigma * ndtri(uniforms)), config.max)


def scaled(tokens: int, scale: float) -> int:
    """A length times a scale, at least 1."""
    return max(1, round(tokens * scale))


def declared_tokens(config: DeclaredConfig, true_tokens: int, fixed: int | None, room: int) -> int:
    """The `max_tokens` a client declares for an output of `true_tokens`, of `room` that the model has left.

    `fixed` is the request's own constant, used in place of the configured one.
    """
    if config.kind == "exact":
        return true_tokens
    wanted = math.ceil(true_tokens * config.slack) if config.kind == "slack" else fixed or config.max_tokens
    return max(true_tokens, min(wanted, room))
