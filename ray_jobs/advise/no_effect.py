"""Keys that change nothing of what `bidkv-recommend` finds, given the rest."""

from __future__ import annotations

from collections.abc import Iterator

from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.from_recording import idle_recorded_keys
from ray_jobs.advise.space import takes_host_memory
from ray_jobs.engines.no_effect import OWN_MODEL, SHAPE_FILE, idle_job_keys
from ray_jobs.workload.no_effect import idle_workload_keys
from ray_jobs.workload.sources import has_sessions
from tracking.typed import Idle


def idle_recommend_keys(config: RecommendConfig) -> Iterator[Idle]:
    """Each with why, and with what has the effect that was probably meant."""
    yield from _searched(config)
    yield from idle_workload_keys(config.workload)
    yield from idle_recorded_keys(config)
    real = config.confirm == "real"
    if not real or config.engine.model == "from-shape":
        yield Idle(
            "engine.model", f"the search simulates; {OWN_MODEL}; model= names it in the printed command"
        )
    if not real:
        looks_for_capacity = config.workload.load_share is not None and config.workload.capacity is None
        for key in ("tracking", "search.real_requests", "search.real_timeout_s", "run.attempts"):
            yield Idle(key, "only confirm=real runs an engine and stores that")
        if not looks_for_capacity:
            for key in ("cluster", "capacity"):
                yield Idle(
                    key,
                    "no engine is started: confirm=real starts one, workload.load=95% looks for a capacity",
                )
    for key in ("until", "precision", "p99_precision", "min_requests"):
        yield Idle(f"run.{key}", "search.requests and search.confirm_requests say how long a run is")
    yield Idle("repeat", "traces are told apart by seed")
    # Of an engine that runs for real the search simulates another, so what that is told counts.
    simulated = config.engine.kind == "vllm_sim"
    for idle in idle_job_keys(config):
        if simulated or not idle.key.startswith("engine.sim") or idle.key == SHAPE_FILE:
            yield idle


def _searched(config: RecommendConfig) -> Iterator[Idle]:
    search, sessions = config.search, has_sessions(config.workload.source.kind)
    lengths = ("requests", "confirm_requests", "rate_requests")
    if sessions:
        for key in lengths:
            yield Idle(f"search.{key}", "sessions are run as they are: set workload.sessions.count")
        yield Idle("space.always", "with sessions those that the search liked best have their turn first")
    elif all(getattr(search, key) is not None for key in lengths):
        for key in ("num_requests", "warmup_requests"):
            yield Idle(
                f"workload.{key}",
                "search.requests and search.confirm_requests say how long a run is; null leaves it to this",
            )
    for_sessions = ("space.sessions_only", "space.retention", "space.kv_offload_gib")
    if not sessions:
        for key in for_sessions:
            yield Idle(key, "the workload has no sessions: nobody returns to what is kept")
    elif not config.engine.prefix_caching:
        for key in for_sessions:
            yield Idle(key, "nothing is kept between turns without engine.prefix_caching")
    elif not takes_host_memory(config.engine):
        yield Idle(
            "space.kv_offload_gib",
            "how fast its blocks come back is not known: set engine.sim.hardware.host_bandwidth",
        )
    if not search.rate_seeds or config.workload.arrivals.kind == "closed_loop":
        for key in ("slo_share", "search.rate_requests", "search.precision"):
            yield Idle(key, "no highest rate is looked for")
