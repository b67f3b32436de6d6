"""Plausible runs without an engine: a toy continuous-batching server with a KV pool and preemption."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from tracking.result import REQUEST_COLUMNS, RunResult

BLOCK = 16
VICTIMS = {
    "lifo": lambda running: running[-1],
    "largest": lambda running: max(running, key=lambda r: r.computed),
    "lcf": lambda running: min(running, key=lambda r: r.computed),
}
STRATEGIES = {"preempt-evict": "lifo", "largest-first": "largest", "lcf": "lcf"}


@dataclass
class ToyRequest:
    id: str
    scheduled_t: float
    prompt: int
    target: int
    max_tokens: int
    computed: int = 0
    output: int = 0
    executed: int = 0
    recomputed: int = 0
    high_water: int = 0
    cached_resume: int = 0
    first_scheduled_t: float | None = None
    preempted_at: float | None = None
    delays: list[float] = field(default_factory=list)
    token_times: list[float] = field(default_factory=list)
    preemptions: int = 0

    def blocks(self, extra: int = 0) -> int:
        return -(-(self.computed + extra) // BLOCK)

    def delta(self) -> float:
        return 1 + 0.5 * self.output / self.max_tokens + 0.3 * self.preemptions


def make_run(
    strategy: str = "preempt-evict",
    *,
    seed: int = 0,
    rate: float = 4.0,
    requests: int = 120,
    warmup: int = 10,
    blocks: int = 160,
    seats: int = 16,
    noise: float = 0.02,
    speed: float = 1.0,
    repeat: int = 0,
) -> RunResult:
    """One run of `strategy` on the trace of `seed`. `speed` scales every step; `noise` jitters it."""
    trace = np.random.default_rng(seed)
    jitter = np.random.default_rng([seed, repeat, *strategy.encode()])
    arrivals = np.cumsum(trace.exponential(1 / rate, requests))
    queue = [
        ToyRequest(
            f"r{i}", float(t), int(trace.integers(16, 260)), int(target), int(target * trace.uniform(1, 2))
        )
        for i, (t, target) in enumerate(zip(arrivals, trace.integers(20, 160, requests), strict=True))
    ]
    everyone, waiting, running = list(queue), [], []
    started = time.time()
    now, events, steps = 0.0, [_run_start(strategy, seed, started, blocks, seats)], []
    choose = VICTIMS[STRATEGIES[strategy]]
    for step in itertools.count():
        while queue and queue[0].scheduled_t <= now:
            waiting.append(queue.pop(0))
        if not running and not waiting:
            if not queue:
                break
            now = queue[0].scheduled_t
            continue
        begin, prefill, decode, preempted = now, 0, 0, 0
        for request in list(running):
            while request in running and sum(r.blocks(1) for r in running) > blocks:
                victim = choose(running)
                events.append(_preempt(step, started + now, request, victim, running, jitter))
                running.remove(victim)
                waiting.insert(0, victim)
                preempted += 1
                victim.preemptions += 1
                victim.preempted_at = now
                victim.cached_resume = int(victim.computed * jitter.uniform(0, 0.5)) // BLOCK * BLOCK
                victim.computed = 0
        fed = [(r, 1) for r in running]
        held = sum(r.blocks(1) for r in running)
        blocked = False
        while waiting and len(running) < seats and not preempted:
            head = waiting[0]
            need = head.prompt + head.output
            if held + -(-need // BLOCK) > blocks:
                blocked = True
                break
            held += -(-need // BLOCK)
            running.append(waiting.pop(0))
            if head.first_scheduled_t is None:
                head.first_scheduled_t = started + now
            if head.preempted_at is not None:
                head.delays.append(now - head.preempted_at)
                head.preempted_at = None
            fed.append((head, need - head.cached_resume))
            head.computed = head.cached_resume
            if sum(n for _, n in fed) > 512:
                break
        for request, tokens in fed:
            prefill, decode = (prefill + tokens, decode) if tokens > 1 else (prefill, decode + 1)
            request.recomputed += max(
                0, min(request.high_water, request.computed + tokens) - request.computed
            )
            request.computed += tokens
            request.executed += tokens
            request.high_water = max(request.high_water, request.computed)
        dur = (0.012 + 0.0004 * decode + 0.00015 * prefill) * speed * jitter.lognormal(0, noise)
        now += dur
        steps.append(
            dict(step=step, t=started + begin, schedule_us=40.0, dur=dur, prefill_tokens=prefill,
                 decode_tokens=decode, prefill_reqs=sum(n > 1 for _, n in fed), decode_reqs=decode,
                 context_tokens=sum(r.computed for r in running), prefill_context=0, running=len(running),
                 waiting=len(waiting), used_blocks=sum(r.blocks() for r in running), cached_free_blocks=0,
                 preempted=preempted, hol_blocked=blocked)
        )  # fmt: skip
        for request in list(running):
            request.output += 1
            request.token_times.append(now)
            if request.output == request.target:
                running.remove(request)
                events.append(_request_record(request, started, now))
    events.append(
        {"type": "run_end", "steps": step, "preemptions": sum(e["type"] == "preempt" for e in events),
         "strategy_errors": 0, "degraded": False}
    )  # fmt: skip
    table = pd.DataFrame([_row(r, i < warmup) for i, r in enumerate(everyone)], columns=list(REQUEST_COLUMNS))
    environment = {
        "engine": "toy", "engine_version": "1", "device": "toy", "cpu": "toy", "cpus": 2, "host": "toy",
    }  # fmt: skip
    return RunResult("finished", table, events, pd.DataFrame(steps), environment, started, started + now)


def _run_start(strategy: str, seed: int, t: float, blocks: int, seats: int) -> dict:
    return {
        "type": "run_start", "run_id": f"{strategy}-{seed}", "strategy": strategy, "admission": "fcfs",
        "victim": STRATEGIES[strategy], "params": {}, "seed": seed, "engine": "vllm_sim",
        "engine_version": "1", "scheduler": "sync",
        "block_size": BLOCK, "num_blocks": blocks, "max_num_seqs": seats,
        "prefix_caching": True, "t": t,
    }  # fmt: skip


def _preempt(step: int, t: float, requester: ToyRequest, victim: ToyRequest, running: list, rng) -> dict:
    select = int((800 + 90 * len(running)) * rng.lognormal(0, 0.2))
    return {
        "type": "preempt", "step": step, "t": t, "requester": requester.id, "victim": victim.id,
        "candidates": [
            {"id": r.id, "computed": r.computed, "prompt": r.prompt, "output": r.output,
             "max_tokens": r.max_tokens, "private_blocks": r.blocks(), "preemptions": r.preemptions}
            for r in running
        ],
        "tokens_freed": victim.computed, "blocks_freed": victim.blocks(), "free_blocks_before": 0,
        "select_ns": select, "hook_ns": select + 4000, "source": "strategy", "stalled": 0,
        "delta": victim.delta(), "utility": victim.computed / (victim.delta() + 1e-3), "score": None,
    }  # fmt: skip


def _request_record(r: ToyRequest, started: float, now: float) -> dict:
    return {
        "type": "request", "id": r.id, "prompt": r.prompt, "output": r.output, "max_tokens": r.max_tokens,
        "executed": r.executed, "recomputed": r.recomputed, "cached": 0, "cached_resume": r.cached_resume,
        "preemptions": r.preemptions, "preempted_s": sum(r.delays), "resume_delays": r.delays,
        "queued_s": r.first_scheduled_t - started - r.scheduled_t, "arrival_t": started + r.scheduled_t,
        "first_scheduled_t": r.first_scheduled_t, "finish_t": started + now, "reason": "length",
    }  # fmt: skip


def _row(r: ToyRequest, warmup: bool) -> dict:
    return {
        "request_id": r.id, "kind": "chat", "status": "ok", "error": None, "warmup": warmup,
        "scheduled_t": r.scheduled_t, "sent_t": r.scheduled_t + 0.001, "first_token_t": r.token_times[0],
        "finish_t": r.token_times[-1], "prompt_tokens": r.prompt, "output_tokens": r.output,
        "true_output_tokens": r.target, "max_tokens": r.max_tokens, "deadline_s": np.nan, "itl_s": np.diff(r.token_times).tolist(),
        "cached_tokens": 0, "executed_tokens": r.executed, "recomputed_tokens": r.recomputed,
        "preemptions": r.preemptions, "preempted_s": sum(r.delays),
        "resume_delay_s": max(r.delays) if r.delays else np.nan,
    }  # fmt: skip
