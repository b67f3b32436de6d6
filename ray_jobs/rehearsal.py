"""Asks a policy about made-up requests before it runs: what it raises there would end as the engine's own choices."""

from __future__ import annotations

import random

from bidkv import create_default_registry
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidValidationError
from bidkv.policy import Policy
from bidkv.policy_file import where
from bidkv.request import FinishedRequest, PoolState, RequestState
from bidkv.strategies.base import Strategy
from bidkv.victim.base import eligible_victims
from ray_jobs.engines.job import StrategyConfig

ROUNDS = 200
MOST = 32  # running requests


def rehearse(config: StrategyConfig, path: str) -> None:
    """Raises ValueError with the line of the file at `path` whose code raised, or with the choice that is none."""
    try:
        settings = AdapterSettings(
            config.name,
            config.admission,
            config.victim,
            dict(config.params),
            dict(config.admission_params),
            config.retention,
            dict(config.retention_params),
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
    admission, victim, now = strategy.admission, strategy.victim, 100.0
    admission.arrived(waiting, now)
    key = admission.key(waiting, now)
    _expect(
        isinstance(key, tuple) and all(map(_is_number, key)), admission, "key", key,
        "a tuple of numbers, the smallest first in line: return (request.prompt_tokens,)",
    )  # fmt: skip
    admission.admits(waiting, running, admission.pool)
    left_free = admission.reserve(running, admission.pool)
    _expect(_is_number(left_free), admission, "reserve", left_free, "a number of KV tokens: return 0.0")
    candidates = eligible_victims(running, draw.randrange(len(running)), victim)
    chosen = victim.select(candidates, now)
    _expect(
        any(chosen is each for each in candidates), victim, "select", getattr(chosen, "request_id", chosen),
        "one of the candidates themselves: return max(candidates, key=lambda request: request.computed_tokens)",
    )  # fmt: skip
    ended = running[0]
    strategy.observe(
        FinishedRequest(ended.request_id, ended.prompt_tokens, ended.max_tokens, ended.max_tokens)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _expect(met: bool, policy: Policy, method: str, found: object, expected: str) -> None:
    """Raises BidValidationError with the place of the method, what it returned, and an example of what it should."""
    if met:
        return
    function = getattr(type(policy), method)
    code = function.__code__
    raise BidValidationError(
        f"{code.co_filename}: line {code.co_firstlineno}: {type(policy).__name__}.{method} returned {found!r}; "
        f"expected {expected}"
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
