"""A strategy's rule of retention on SGLang: what its own radix tree gives up next, and rules that it does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bidkv import BidValidationError, create_default_registry
from bidkv.adapters.sglang.eviction import as_flags, server_arguments

PLAIN = {"page_size": 1, "chunked_prefill_size": 256, "disable_overlap_schedule": True}
OFTEN, ONCE = [7] * 60, [9] * 60  # prompts of who had two turns, and later of who had one


def rule(name: str, **params: int) -> Any:
    return create_default_registry().pair("fcfs", "lcf", name, retention_params=params).retention


def computed_again(scheduler: Any) -> dict[str, int]:
    """Tokens that each of the two computes when it comes back, after the tree gave up as many as one of them had."""
    from sglang.srt.mem_cache.base_prefix_cache import EvictParams

    def turn(name: str, prompt: list[int]) -> int:
        arrivals = {1: [scheduler.request(name, prompt, 2)]}
        scheduler.run(lambda number: arrivals.pop(number, ()), lambda: bool(arrivals))
        return scheduler.steps[0][0][1]

    for name, prompt in (("a", OFTEN), ("b", OFTEN), ("c", ONCE)):
        turn(name, prompt)
    scheduler.tree_cache.evict(EvictParams(num_tokens=60))
    return {"often": turn("d", OFTEN), "once": turn("e", ONCE)}


def test_who_came_back_keeps_its_blocks(real: Any, hooked: Callable[..., Any]) -> None:
    scheduler = real(tokens=400, **PLAIN, **server_arguments(rule("slru")))
    adapter = hooked(scheduler, strategy="lcf", retention="slru")
    kept = computed_again(scheduler)
    assert kept["often"] < 10 and kept["once"] > 50, kept
    adapter.close()
    with pytest.raises(BidValidationError, match="'slru' has no effect on this engine.*protected_threshold"):
        hooked(scheduler, strategy="lcf", retention="slru", retention_params={"protected": 3})


def test_the_engines_own_rule_goes_by_use_alone_and_takes_no_other_while_it_runs(
    real: Any, hooked: Callable[..., Any]
) -> None:
    scheduler = real(tokens=400, **PLAIN)
    hooked(scheduler, strategy="lcf")
    own = computed_again(scheduler)
    assert own["often"] > 50 and own["once"] < 10, own
    with pytest.raises(
        BidValidationError, match="start it with --radix-eviction-policy lfu, or choose 'lru'$"
    ):
        hooked(scheduler, strategy="lcf", retention="lfu")


def test_sglang_is_started_with_its_counterpart_and_others_are_refused() -> None:
    assert as_flags(server_arguments(rule("slru", protected=3))) == [
        "--radix-eviction-policy",
        "slru",
        "--radix-eviction-policy-config",
        '{"protected_threshold": 3}',
    ]
    assert server_arguments(rule("tlru"))["radix_eviction_policy_config"] == {
        "threshold": 2048,
        "next_prompt_estimate": 256,
    }
    assert server_arguments(rule("lru")) == {}
    for name in ("ttl_learned", "gdsf", "auction", "depth"):
        with pytest.raises(
            BidValidationError, match=f"{name!r} has no counterpart.*one of lru, lfu, slru, tlru$"
        ):
            server_arguments(rule(name))
