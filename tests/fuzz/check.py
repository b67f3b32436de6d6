"""Runs a case on stock and under bidkv and asks the oracles."""

from __future__ import annotations

import gc
import inspect
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidKVError
from bidkv.registry import create_default_registry
from fuzz.bench import Bench
from fuzz.cases import Case, make_case
from fuzz.drive import Driver
from fuzz.known import Fault, crash, failed_line
from fuzz.oracles import (
    AFTER_THE_END,
    ARRIVAL_ORDER,
    ORACLES,
    PATIENCE,
    SLOWER,
    Run,
    place_of,
    wrong_outputs,
)

STOCK_PAIR = "stock-unmodified-pair"
"""In place of a strategy: stock vLLM against itself, which shows that the bench and the oracles are right."""

MOST_STEPS = 4000  # of a case on stock


@dataclass(frozen=True)
class Failure:
    case: Case
    oracle: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """What a case showed: failures; or why it says nothing (`skipped`: vLLM itself, or bidkv, refuses it)."""

    failures: tuple[Failure, ...] = ()
    skipped: str | None = None
    steps: int = 0
    preemptions: int = 0
    refused: bool = False
    passed: int = 0


@cache
def strategies() -> tuple[str, ...]:
    """Those that every engine takes."""
    registry = create_default_registry()
    return tuple(name for name in registry.list_strategies() if not registry.get(name).needs_cache)


@cache
def admission_of(strategy: str) -> Any:
    return create_default_registry().get(strategy).admission


def bound_of(strategy: str, params: dict[str, Any]) -> int | None:
    """How many may pass one who waits; 0 in arrival order, None for any number."""
    if strategy == STOCK_PAIR:
        return 0
    admission = admission_of(strategy)
    if admission.name in ("fcfs", "watermark"):
        return 0
    return params.get("max_overtaken", admission.max_overtaken)


def arrival_order(strategy: str) -> bool:
    if strategy == STOCK_PAIR:
        return True
    return strategy in ARRIVAL_ORDER or admission_of(strategy).name == "fcfs"


@cache
def facts_settings() -> tuple[str, ...]:
    """The settings that make an adapter listen to what clients declare, where there are such."""
    return tuple(n for n in inspect.signature(AdapterSettings).parameters if "fact" in n or "client" in n)


def check(case: Case, model: Path, scratch: Path, mutant: type | None = None) -> Verdict:
    """The verdict on a case. `scratch` is a folder for its control file; `mutant` goes in front of bidkv's class."""
    pair = case.strategy == STOCK_PAIR
    try:
        bench = Bench(model, case.engine)
    except Exception as error:  # a combination that vLLM does not have
        return Verdict(skipped=f"vLLM refuses: {type(error).__name__} {str(error)[:80]}")
    exact = bench.exact
    stock = Driver(case, bench, None, bound_of, MOST_STEPS).run()
    if stock.error is not None:
        name = str(stock.error)[:60] or failed_line(stock.error)
        return Verdict(skipped=f"stock fails: {type(stock.error).__name__} {name}")
    if next(wrong_outputs(case, stock, exact), None):
        return Verdict(skipped="stock's outputs are wrong")
    if stock.problems:
        return Verdict(skipped=f"stock's own {stock.problems[0][0]}")
    del bench
    control = scratch / "control.json"
    control.unlink(missing_ok=True)
    settings = None if pair else settings_of(case, control)
    try:
        bench = Bench(model, case.engine, settings, mutant)
    except BidKVError as error:
        return Verdict(skipped=f"bidkv refuses: {str(error)[:100]}")
    except Exception as error:
        text = f"at the start: {type(error).__name__}: {str(error)[:200]} ({place_of(error)})"
        return Verdict(failures=(Failure(case, "no_exception", text),))
    limit = SLOWER * len(stock.steps) + 2 * PATIENCE
    driver = Driver(case, bench, None if pair else control, bound_of, limit)
    trace = driver.run()
    if trace.error is not None and (why := crash(trace.error, case.engine)):
        return Verdict(skipped=f"vLLM's own fault: {why}")
    run = Run(case, stock, trace, bench, arrival_order)
    found = ask(run, pair)
    if found and (why := explained(found, trace.faults)):
        return Verdict(skipped=f"vLLM's own fault: {why}")
    return Verdict(
        tuple(found),
        steps=len(trace.steps),
        preemptions=sum(trace.preemptions.values()),
        refused=trace.refused is not None,
        passed=len(trace.passes),
    )


def warm_up(model: Path, scratch: Path) -> None:
    """Makes what cases share, and keeps it out of later collections, which then take a millisecond."""
    for seed in range(3):
        check(make_case(seed, strategies()), model, scratch)
    gc.collect()
    gc.freeze()


def explained(failures: list[Failure], faults: list[Fault]) -> str | None:
    """Which faults of vLLM's own the failures come of; None where one does not."""
    texts = [f"{failure.oracle}: {failure.text}" for failure in failures]
    reasons = [next((fault.reason for fault in faults if fault.explains(text)), None) for text in texts]
    return None if None in reasons else "; ".join(dict.fromkeys(reasons))


def ask(run: Run, pair: bool) -> list[Failure]:
    failures = []
    for oracle in ORACLES:
        if (run.trace.error is not None and oracle in AFTER_THE_END) or (
            pair and oracle.__name__ == "counters"
        ):
            continue
        failures += [Failure(run.case, oracle.__name__, text) for text in oracle(run)]
    return failures


def settings_of(case: Case, control: Path) -> dict[str, Any]:
    facts = dict.fromkeys(facts_settings(), True) if case.facts or "_oracle" in str(case.strategies()) else {}
    return {
        "strategy": case.strategy,
        "admission_params": case.admission_params,
        "kill_switch": case.kill_switch,
        "control_file": str(control),
        **facts,
    }
