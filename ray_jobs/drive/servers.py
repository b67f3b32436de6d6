"""Jobs that drive servers which are up already: each server is asked once, before anything is planned."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from bidkv.adapters.shared.control_place import check_place
from bidkv.errors import BidValidationError
from bidkv.policy_file import is_reference
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.pilot import Say
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.openai.ask import asked, scrape
from ray_jobs.engines.openai.counters import STRATEGY_INFO, Counters
from tracking.errors import require
from tracking.evidence.baseline import STOCK

ENDPOINT = "endpoint"
AS_SERVED = "as-served"  # the label of whatever the server does by itself


def resolve_servers(jobs: Sequence[BenchConfig], say: Say) -> list[BenchConfig]:
    """The jobs with what their servers say of themselves. Raises ValueError, in one line, for what a server lacks."""
    known: dict[str, tuple[EngineConfig, Counters | None]] = {}
    resolved = []
    for job in jobs:
        if job.engine.kind != ENDPOINT:
            resolved.append(job)
            continue
        key = repr(job.engine)
        if key not in known:
            _check_key(job.engine)
            engine = asked(job.engine)
            known[key] = engine, scrape(engine)
            say(_what_it_is(engine))
        engine, counters = known[key]
        _check_strategy(job, counters)
        resolved.append(replace(job, engine=engine))
    if any(job.engine.kind == ENDPOINT and job.workload.declared.kind != "exact" for job in resolved):
        say(
            "what clients declare does not reach a server: max_tokens is how long each answer is, and policies see that"
        )
    return resolved


def _what_it_is(engine: EngineConfig) -> str:
    server = engine.server
    memory = (
        f"{server['num_blocks']} blocks of {server['block_size']} tokens"
        if "num_blocks" in server
        else "how much KV memory it has is not known"
    )
    return (
        f"{engine.url}: {server['engine']} {server['version']} serves {engine.model}, context "
        f"{engine.max_model_len} tokens, {memory}"
    )


def _check_key(engine: EngineConfig) -> None:
    for name in engine.pass_env:
        require(
            name in os.environ, "engine.pass_env", name, "a variable that is set: it has the server's API key"
        )


def _check_strategy(job: BenchConfig, counters: Counters | None) -> None:
    """Whether the server can be brought to run the job's strategy, or does what it does with none."""
    engine, strategy = job.engine, job.strategy
    require(
        not strategy.engine, "strategy.engine", strategy.engine,
        f"empty: the server at {engine.url} is up and keeps its settings",
    )  # fmt: skip
    if engine.control_file is None:
        decides = counters.strategy if counters else None
        as_it_is = strategy.kill_switch and (strategy.label == AS_SERVED or decides in (None, *STOCK))
        instead = "engine.control_file=FILE, the server's --bidkv-control, switches it"
        require(
            as_it_is, "strategy", strategy.label,
            f"{AS_SERVED} for a server that runs {decides!r}; {instead}"
            if strategy.kill_switch
            else f"stock or {AS_SERVED} for a server that is taken as it is; {instead}",
        )  # fmt: skip
        return
    require(strategy.label != AS_SERVED, "strategy", AS_SERVED, "given without engine.control_file")
    require(
        counters is not None and STRATEGY_INFO in counters.infos, "engine.control_file", engine.control_file,
        f"left out: /metrics of {engine.url} does not say which strategy decides, so nobody would see whether the "
        "file is read (vLLM's says so if it was started with a strategy and --bidkv-control)",
    )  # fmt: skip
    require(
        job.cluster.address is None, "cluster.address", job.cluster.address,
        "null with engine.control_file, which lies on this machine",
    )  # fmt: skip
    for half in ("admission", "victim", "retention"):
        name = getattr(strategy, half)
        require(not is_reference(name), f"strategy.{half}", name, "registered: a control file runs no code")
    try:
        check_place(engine.control_file)
    except BidValidationError as error:
        raise ValueError(f"engine.control_file: {error}") from None
    folder = os.path.dirname(os.path.abspath(engine.control_file))
    require(
        os.access(folder, os.W_OK),
        "engine.control_file",
        engine.control_file,
        f"in a folder that {os.geteuid()} may write",
    )
