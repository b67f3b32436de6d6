"""Asks a policy about made-up requests before it runs: what it raises there would end as the engine's own choices."""

from __future__ import annotations

import random

from bidkv import create_default_registry
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.adapters.shared.victims import check_victim
from bidkv.errors import BidValidationError
from bidkv.policy_file import where
from bidkv.request import FinishedRequest, PoolState, RequestState
from bidkv.strategies.base import Strategy, eligible_victims
from ray_jobs.engines.job import StrategyConfig

ROUNDS = 200
MOST = 32  # running requests


def rehearse(config: StrategyConfig, path: str) -> None:
    """Raises ValueError with the line of the file at `path` whose code raised, or with the choice that is none."""
    try:
        settings = AdapterSettings(
            config.name, config.admission, config.victim, dict(config.params), dict(config.admission_params)
        )
        strategy = settings.build(create_default_registry())
        strategy.bind(PoolState())
        for seed in range(ROUNDS):
            _round(strategy, random.Random(seed))
    except BidValidationError:
        raise
    except Exception as error:  # whatever a user's policy does
        raise BidValidationError(f"{path}: {where(error, path)}") from None


def _round(strategy: Strategy, draw: random.Random) -> None:
    """One arrival, one admission, one preemption and one end."""
    running = [_request(strategy, draw, f"r{i}") for i in range(draw.randint(1, MOST))]
    waiting = _request(strategy, draw, "w")
    waiting.computed_tokens = waiting.output_tokens = 0
    admission, now = strategy.admission, 100.0
    admission.arrived(waiting, now)
    tuple(map(float, admission.key(waiting, now)))
    admission.admits(waiting, running, admission.pool)
    candidates = eligible_victims(running, draw.randrange(len(running)), strategy.victim)
    check_victim(strategy.victim, strategy.victim.select(candidates, now), candidates)
    ended = running[0]
    strategy.observe(
        FinishedRequest(ended.request_id, ended.prompt_tokens, ended.max_tokens, ended.max_tokens)
    )


def _request(strategy: Strategy, draw: random.Random, name: str) -> RequestState:
    prompt, limit = draw.randint(1, 4000), draw.randint(1, 1000)
    output = draw.randint(0, limit)
    computed = prompt + output
    return RequestState(
        request_id=name, computed_tokens=computed, prompt_tokens=prompt, output_tokens=output, max_tokens=limit,
        private_tokens=computed, private_blocks=-(-computed // 16), total_blocks=-(-computed // 16),
        arrival=draw.uniform(0, 100), priority=draw.randint(0, 2), preemptions=draw.randint(0, 3),
        deadline=draw.choice([None, 110.0]), true_output_tokens=limit if strategy.oracle else None,
    )  # fmt: skip
