"""What must hold of a case under bidkv, next to the same case on stock vLLM. Each oracle yields what is wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from vllm.v1.request import Request

from fuzz.bench import Bench
from fuzz.cases import Case
from fuzz.drive import SKIPS_FIRST, Trace
from fuzz.model import answer

STOCKS_OWN = ("stock", "preempt-evict")
"""Strategies that decide as vLLM does, also about who is preempted."""
ARRIVAL_ORDER = (*STOCKS_OWN, "backfill", "backfill-deep", "backfill_oracle", "watermark")
"""Strategies under which nobody passes anybody while there is memory for all; so do those with admission `fcfs`."""

SLOWER = 3  # times stock's steps that a case may take
PATIENCE = 200  # and so many more: passers wait for a step with a prompt


@dataclass(frozen=True)
class Run:
    """A case under bidkv beside stock. `arrival_order(name)` says whether a strategy's admission keeps it."""

    case: Case
    stock: Trace
    trace: Trace
    bench: Bench
    arrival_order: Callable[[str], bool]


Oracle = Callable[[Run], Iterator[str]]


def no_exception(run: Run) -> Iterator[str]:
    error = run.trace.error
    if error is not None:
        yield f"{type(error).__name__}: {str(error)[:200]} ({place_of(error)})"


def place_of(error: BaseException) -> str:
    """The innermost line of bidkv's or else of vLLM's that an error passed."""
    places, tb = [], error.__traceback__
    while tb is not None:
        code = tb.tb_frame.f_code
        places.append(f"{'/'.join(code.co_filename.split('/')[-3:])}:{tb.tb_lineno} {code.co_name}")
        tb = tb.tb_next
    own = [p for p in places if "bidkv/" in p or "adapters/" in p]
    return " < ".join([places[-1], *own[-1:]])


def same_schedule(run: Run) -> Iterator[str]:
    """With the kill switch on, and under stock's own rules, always; in arrival order until memory is refused to anybody."""
    case, ours, stock = run.case, run.trace.steps, run.stock.steps
    names = case.strategies()
    killed = case.kill_switch and not case.has("kill", "switch")
    if killed or all(name in (*STOCKS_OWN, "stock-unmodified-pair") for name in names):
        until = max(len(ours), len(stock))
    elif all(run.arrival_order(name) for name in names):
        refusals = [t.refused for t in (run.stock, run.trace) if t.refused is not None]
        until = min(refusals, default=max(len(ours), len(stock)))
    else:
        return
    for step in range(until):
        a = ours[step] if step < len(ours) else None
        b = stock[step] if step < len(stock) else None
        if a != b:
            yield f"step {step}: {brief(a)}, stock {brief(b)}"
            return


def brief(step: list[tuple[str, int]] | None) -> str:
    if step is None:
        return "none"
    text = " ".join(f"{name}+{tokens}" for name, tokens in step)
    return f"[{text}]" if len(text) < 160 else f"[{text[:160]}...]"


def overtaking(run: Run) -> Iterator[str]:
    """Nobody is passed once as many have passed as the strategy allows; in arrival order nobody is."""
    for seen in run.trace.passes:
        if seen.bound is not None and seen.before >= seen.bound:
            kind = "arrival order" if seen.bound == 0 else f"bound {seen.bound}"
            yield f"step {seen.step}: {seen.waiter}, passed by {seen.before} already, by {seen.passers} ({kind})"
            return


def nothing_left(run: Run) -> Iterator[str]:
    """Requests, queues, blocks and whatever bidkv keeps of each request."""
    scheduler = run.bench.scheduler
    for name in (
        "requests",
        "running",
        "waiting",
        "kv_holding_waiting",
        "deferred_waiting",
        "skipped_waiting",
    ):
        if len(getattr(scheduler, name, ())):
            yield f"scheduler.{name} has {len(getattr(scheduler, name))}"
    if run.trace.free_blocks != run.stock.free_blocks:
        yield f"{run.trace.free_blocks} blocks are free, stock {run.stock.free_blocks}"
    ids = {op.name for op in run.case.ops if op.kind == "add"}
    kept = remnants(scheduler, ids)
    if kept:
        yield "kept: " + ", ".join(sorted(kept)[:4])
    elif run.trace.alive > run.stock.alive:
        yield f"{run.trace.alive} requests are alive, of stock's {run.stock.alive}"


def remnants(scheduler: Any, ids: set[str]) -> set[str]:
    """Where below the scheduler's `_bidkv_` attributes a request is left, or its id in something that can grow.

    Paths without the id. What a single field remembers of the latest request is overwritten by the next.
    """
    found: set[str] = set()
    seen: set[int] = set()
    queue = deque(
        (name, value, False) for name, value in vars(scheduler).items() if name.startswith("_bidkv")
    )
    queue.append(("waiting", scheduler.waiting, False))
    while queue and len(seen) < 20_000:
        path, item, grows = queue.popleft()
        if isinstance(item, Request) or (grows and isinstance(item, str) and item in ids):
            found.add(path)
        if isinstance(item, Request | str | int | float | type(None)) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            queue += [(f"{path}{{}}", key, True) for key in item]
            queue += [(f"{path}[]", value, True) for value in item.values()]
        elif isinstance(item, list | set | frozenset | deque):
            queue += [(f"{path}[]", value, True) for value in item]
        elif isinstance(item, tuple):
            queue += [(f"{path}[]", value, grows) for value in item]
        elif isinstance(item, partial):
            queue += [(f"{path}()", value, grows) for value in (*item.args, *item.keywords.values())]
        elif type(item).__module__.startswith("bidkv"):
            queue += [(f"{path}.{name}", value, grows) for name, value in attributes(item)]
    return found


def attributes(item: Any) -> list[tuple[str, Any]]:
    slots = [name for cls in type(item).__mro__ for name in getattr(cls, "__slots__", ())]
    return [*getattr(item, "__dict__", {}).items(), *((n, getattr(item, n, None)) for n in slots)]


def counters(run: Run) -> Iterator[str]:
    """bidkv's own counts are vLLM's."""
    case, trace = run.case, run.trace
    log = run.bench.scheduler._bidkv_session.log
    counts = log.counters
    for name in ("strategy_errors", "control_errors"):
        if counts[name]:
            yield f"{counts[name]} {name}"
    if case.has("switch"):  # another run's counts begin there
        return
    wanted = {
        "preemptions": sum(trace.preemptions.values()),
        "requests": case.requests,
        "arrivals": case.requests,
        "steps": len(trace.steps) + 1,  # the idle one at the end
    }
    for name, value in wanted.items():
        if counts[name] != value:
            yield f"{name}: {counts[name]}, vLLM {value}"
    recomputed = sum(record["recomputed"] for record in trace.records)
    if recomputed and not trace.preemptions and not trace.failed_loads:
        yield f"{recomputed} tokens computed again, and nobody was preempted"
    if case.has("chunk"):
        return
    adds = {op.name: op for op in case.ops if op.kind == "add"}
    for record in trace.records:
        op = adds[record["id"]]
        if record["prompt"] != op.prompt + op.prefix:
            yield f"prompt of {op.name}: {record['prompt']} tokens, was {op.prompt + op.prefix}"
        if record["output"] != len(trace.delivered.get(op.name, ())):
            yield f"output of {op.name}: {record['output']} tokens, vLLM gave {len(trace.delivered.get(op.name, ()))}"


def progress(run: Run) -> Iterator[str]:
    steps, stock = len(run.trace.steps), len(run.stock.steps)
    if steps > SLOWER * stock + PATIENCE:
        yield f"{steps} steps, stock {stock}"
    allowed = run.stock.stalled + 0.01 * steps + 5
    if run.trace.stalled > allowed:
        yield f"running requests stood still in {run.trace.stalled} of {steps} steps, stock {run.stock.stalled}"


def outputs(run: Run) -> Iterator[str]:
    """Whoever ended by itself has all its tokens, and the right ones where the model's answers are known.

    vLLM 0.26 samples a token twice where it preempts who is in flight in a pipeline without async scheduling.
    """
    engine = run.case.engine
    if SKIPS_FIRST and engine.depth > 1 and not engine.asynchronous and run.trace.preemptions:
        return
    yield from wrong_outputs(run.case, run.trace, run.bench.exact)


def wrong_outputs(case: Case, trace: Trace, exact: bool) -> Iterator[str]:
    for op in case.ops:
        if op.kind != "add" or op.resumable or trace.ended.get(op.name) != "length":
            continue
        start = op.prompt + op.prefix
        wanted = [answer(op.name, start + place) if exact else 5 for place in range(op.output)]
        if trace.delivered.get(op.name) != wanted:
            got = trace.delivered.get(op.name, [])
            yield f"{op.name} got {len(got)} of {op.output} tokens, or wrong ones"


def seen_on_the_way(run: Run) -> Iterator[str]:
    for oracle, text in run.trace.problems[:1]:
        yield f"{oracle}: {text}"


ORACLES: tuple[Oracle, ...] = (
    no_exception,
    same_schedule,
    overtaking,
    seen_on_the_way,
    nothing_left,
    counters,
    progress,
    outputs,
)
AFTER_THE_END = (same_schedule, nothing_left, counters, progress, outputs)
"""Oracles that say nothing of a run that an exception ended."""
