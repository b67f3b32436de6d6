"""Retention in the simulator: who is kept between turns, told by what later turns find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_jobs.workload.trace import Trace, TraceRequest

pytest.importorskip("vllm", reason="vLLM is not installed")
from sim_bench import random_trace, run, variant

from bidkv.adapters.vllm.memory.blocks import KVBlocks

BLOCKS = 25  # of 16 tokens, one is vLLM's own: two and a half of the conversations below


def rounds(users: int = 3, turns: int = 6) -> Trace:
    """Users take their turns one after another, round after round: whoever was used longest ago is always next."""
    draw, requests = np.random.default_rng(0), []
    for user in range(users):
        tokens = draw.integers(3, 2000, 160 + 8 * turns)
        for turn in range(turns):
            name = f"user{user}-{turn}"
            parents = (f"user{user}-{turn - 1}",) if turn else ()
            requests.append(
                TraceRequest(
                    name,
                    100.0 * user + 300.0 * turn,
                    tokens[: 130 + 8 * turn],
                    4,
                    8,
                    session=f"user{user}",
                    turn=turn,
                    parents=parents,
                    think_time_s=300.0 if turn else 0.0,
                )
            )
    return Trace("rounds", 0, tuple(sorted(requests, key=lambda request: request.arrival_s)))


def found(outcome: Any) -> int:
    return sum(event["cached"] for event in outcome.events if event["type"] == "request")


def test_foresight_keeps_what_the_least_recently_used_rule_loses(tiny_parts: Any, tmp_path: Path) -> None:
    parts, trace = variant(tiny_parts, blocks=BLOCKS), rounds()
    runs = {rule: run(parts, trace, tmp_path, retention=rule) for rule in ("lru", "gdsf", "belady_oracle")}
    assert {rule: outcome.events[0]["retention"] for rule, outcome in runs.items()} == {r: r for r in runs}
    assert found(runs["belady_oracle"]) > 1.3 * found(runs["lru"]) > 0
    assert all(event["type"] != "strategy_error" for outcome in runs.values() for event in outcome.events)


@pytest.mark.parametrize("rule", ["gdsf", "ttl_learned", "belady_oracle"])
def test_the_same_job_gives_the_same_records(tiny_parts: Any, tmp_path: Path, rule: str) -> None:
    parts, trace = variant(tiny_parts, blocks=BLOCKS), rounds()
    first, again = (run(parts, trace, tmp_path, retention=rule, shortcuts=s) for s in (True, False))
    assert first.events == again.events


def crowd(users: int = 12, turns: int = 8) -> Trace:
    """More users than fit, who take their turns all at once and wait little between."""
    draw, requests = np.random.default_rng(1), []
    for user in range(users):
        tokens = draw.integers(3, 2000, 160 + 8 * turns)
        for turn in range(turns):
            name = f"user{user}-{turn}"
            parents = (f"user{user}-{turn - 1}",) if turn else ()
            think = float(draw.exponential(0.02)) if turn else 0.0
            prompt = tokens[: 130 + 8 * turn]
            requests.append(
                TraceRequest(
                    name,
                    0.02 * user,
                    prompt,
                    4,
                    8,
                    session=f"user{user}",
                    turn=turn,
                    parents=parents,
                    think_time_s=think,
                )
            )
    return Trace("crowd", 0, tuple(sorted(requests, key=lambda request: request.arrival_s)))


def test_who_is_cached_goes_first_and_more_is_found_without_any_foresight(
    tiny_parts: Any, tmp_path: Path
) -> None:
    parts, trace = variant(tiny_parts, blocks=61), crowd()
    stock, ours = (run(parts, trace, tmp_path, strategy=s, name=s) for s in ("preempt-evict", "kept-first"))
    assert found(ours) > 1.5 * found(stock) > 0
    assert ours.duration_s < stock.duration_s
    assert all(event["type"] != "strategy_error" for event in ours.events)
    assert [log.status for log in ours.logs] == ["ok"] * len(trace.requests)


def test_pauses_of_a_trace_are_until_the_turn_that_goes_on() -> None:
    trace = rounds(users=1, turns=3)
    assert trace.pauses == {"user0-0": 300.0, "user0-1": 300.0, "user0-2": float("inf")}


@pytest.mark.parametrize("shortcuts", [True, False])
@pytest.mark.parametrize("same", [0, 64])
def test_free_blocks_that_are_cached_are_counted_without_looking_at_each(
    tiny_parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shortcuts: bool, same: int
) -> None:
    counted, quick = [], []
    told = KVBlocks.cached_free

    def both(blocks: KVBlocks) -> int | None:
        free = blocks._pool.free_block_queue.get_all_free_blocks()
        quick.append(2 * blocks.free() > blocks.usable and blocks._in_use() is not None)
        counted.append((told(blocks), sum(block.block_hash is not None for block in free)))
        return counted[-1][0]

    monkeypatch.setattr(KVBlocks, "cached_free", both)
    trace = random_trace(3, 60, rate=100.0, shared=same)
    run(variant(tiny_parts, blocks=200), trace, tmp_path, shortcuts=shortcuts)
    assert {told == looked for told, looked in counted} == {True} and sum(quick) > len(quick) / 3
    assert max(looked for _, looked in counted) > 100
