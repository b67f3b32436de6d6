"""Keys of a workload that change nothing of its trace, given the rest of it."""

from __future__ import annotations

from collections.abc import Iterator

from ray_jobs.workload.config import KINDS_WITH_RATE, WorkloadConfig
from ray_jobs.workload.sources import has_file, has_sessions, has_text, of_the_file
from tracking.typed import Idle


def idle_workload_keys(workload: WorkloadConfig) -> Iterator[Idle]:
    """Each with why, and with what has the effect that was probably meant."""
    yield from _load(workload)
    yield from _arrivals(workload)
    yield from _source(workload)
    frozen, sessions = workload.source.kind == "frozen", has_sessions(workload.source.kind)
    if frozen:
        for key in ("declared", "length_scale", "max_prompt_tokens", "fit"):
            yield Idle(f"workload.{key}", "a frozen trace has its requests already; give it to bidkv-freeze")
    yield from _declared(workload)
    if not sessions:
        yield Idle(
            "workload.sessions",
            f"workload={workload.name} sends no session turn by turn; workload=sessions has some",
        )


def _load(workload: WorkloadConfig) -> Iterator[Idle]:
    share, kind = workload.load_share, workload.arrivals.kind
    follows = kind in KINDS_WITH_RATE and workload.source.kind != "frozen"
    if share is not None:
        yield Idle("workload.rate", f"workload.load={workload.load} sets it, a share of workload.capacity")
        yield Idle("workload.loads", f"workload.load={workload.load} is none of them")
        return
    yield Idle("workload.capacity", "it is what a share is taken of: workload.load=95%")
    if not follows:
        instead = (
            "workload.arrivals.time_scale=0.5 replays twice as fast, workload.load=95% is a share of the capacity"
            if kind == "replay"
            else "users send when they are answered; set workload.arrivals.users"
        )
        for key in ("rate", "load", "loads"):
            yield Idle(
                f"workload.{key}", f"workload={workload.name} has arrivals.kind={kind}, no rate; {instead}"
            )
        return
    if workload.rate != workload.loads.get(workload.load):
        yield Idle("workload.load", f"workload.rate={workload.rate:g} is given; leave one of them out")
        yield Idle("workload.loads", f"workload.rate={workload.rate:g} is given")
    for name in workload.loads:
        if name != workload.load:
            yield Idle(f"workload.loads.{name}", f"workload.load is {workload.load}")


def _arrivals(workload: WorkloadConfig) -> Iterator[Idle]:
    kind = workload.arrivals.kind
    if kind != "gamma":
        yield Idle("workload.arrivals.burstiness", f"workload.arrivals.kind is {kind}; kind=gamma has bursts")
    if kind != "closed_loop":
        for key in ("users", "think_time_s"):
            yield Idle(
                f"workload.arrivals.{key}",
                f"workload.arrivals.kind is {kind}; workload=closed_loop has users",
            )
    if kind != "replay":
        yield Idle(
            "workload.arrivals.time_scale", f"workload.arrivals.kind is {kind}; set workload.rate instead"
        )
    elif workload.load_share is not None:
        yield Idle("workload.arrivals.time_scale", f"workload.load={workload.load} sets how fast it is")


def _source(workload: WorkloadConfig) -> Iterator[Idle]:
    source, name = workload.source, workload.name
    if not has_file(source.kind):
        for key in ("path", "pick"):
            yield Idle(
                f"workload.source.{key}", f"workload={name} reads no file; a log of yours is workload=csv"
            )
    elif source.kind == "frozen":
        yield Idle("workload.source.pick", "a frozen trace is taken from its beginning")
    elif of_the_file(source.kind) and workload.num_requests is None:
        yield Idle("workload.source.pick", "workload.num_requests=null takes all of the file")
    if not has_text(source.kind):
        yield Idle("workload.source.tokenizer", f"workload={name} has counts of tokens, no texts")
    if source.kind != "csv":
        yield Idle("workload.source.columns", f"workload={name} is no CSV file of your own; workload=csv is")
    if source.kind != "mixture":
        yield Idle("workload.source.components", f"workload={name} is no mixture; workload=mixed is")
    if source.kind != "sessions":
        yield Idle(
            "workload.source.conversation", f"workload={name} draws no conversations; workload=sessions does"
        )


def _declared(workload: WorkloadConfig) -> Iterator[Idle]:
    kind, source = workload.declared.kind, workload.source
    if kind != "slack":
        yield Idle("workload.declared.slack", f"workload.declared.kind is {kind}")
    if kind != "fixed":
        yield Idle("workload.declared.max_tokens", f"workload.declared.kind is {kind}")
        for name in source.components:
            yield Idle(f"workload.source.components.{name}.max_tokens", f"workload.declared.kind is {kind}")
    elif source.kind == "recorded":
        yield Idle("workload.declared.max_tokens", "each recorded request has its own")
    elif source.kind == "mixture" and all(part.max_tokens for part in source.components.values()):
        keys = ", ".join(f"workload.source.components.{name}.max_tokens" for name in source.components)
        yield Idle("workload.declared.max_tokens", f"each component has its own: {keys}")
