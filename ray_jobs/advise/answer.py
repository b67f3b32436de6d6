"""An advice as plain data: what is printed, and what `format=json` gives."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ray_jobs.advise.advise import Advice
from ray_jobs.advise.config import RecommendConfig, metric_of
from ray_jobs.advise.confirm import Confirmation
from ray_jobs.advise.file_sizes import cut_line
from ray_jobs.advise.from_recording import fit_facts
from ray_jobs.advise.here import here
from ray_jobs.advise.more import MoreTime, more_time
from ray_jobs.advise.pressure import Pressure
from ray_jobs.advise.rates import HighestRates
from ray_jobs.advise.serving import serving_command
from ray_jobs.advise.space import Candidate
from ray_jobs.drive.pilot import engine_version
from ray_jobs.drive.plan import load_name
from ray_jobs.engines.job import JobConfig
from tracking.evidence.statistics import MIN_PAIRS, Interval
from tracking.reporting.words import change, short_name

KEEP, UNDECIDED, PRESSURE = "keep stock", "undecided", "policies can help"
OVERLOADED = "overloaded: a policy decides who waits, it does not make the engine bear this load"


def answer(
    config: RecommendConfig, advice: Advice, real: Confirmation | None = None, words: Sequence[str] = ()
) -> dict[str, Any]:
    """Numbers are of the confirmation alone; those of the search, which are too good, appear nowhere.

    `words` are what was typed, for the commands that go on.
    """
    confirmation, chosen = advice.confirmation, advice.chosen
    sim, pressure, only = config.engine.sim, advice.pressure, config.until == "pressure"
    more = None if only else more_time(config, advice)
    found = asked_alone(pressure) if only else chosen.label if chosen else UNDECIDED if more else KEEP
    return {
        "recommendation": found,
        "but": named(confirmation.unsure) if chosen and confirmation.unsure else None,
        "pressure": asdict(pressure) | {"text": pressure.text} if pressure else None,
        "here": here(config, pressure),
        "recorded": recorded(advice),
        "why": "asked for whether there is pressure alone" if only else why(config, advice, more),
        "besides": besides(config, advice),
        "more": asdict(more) | {"command": longer(words, more)} if more else None,
        "next": again(words) if only and found != KEEP else None,
        "command": command(config, advice, chosen or advice.stock),
        "stock_command": command(config, advice, advice.stock),
        "strategy": asdict(advice.space.strategy(chosen)) if chosen else None,
        "now": config.strategy.label,
        "workload": config.workload.name,
        "load": load_name(config),
        "engine": {
            "kind": config.engine.kind,
            "model_shape": sim.model_shape.name,
            "device": sim.hardware.name,
            "devices": sim.model_shape.tensor_parallel,
            "num_blocks": config.engine.num_blocks,
            "max_num_seqs": config.engine.max_num_seqs,
            "max_num_batched_tokens": config.engine.max_num_batched_tokens,
            "vllm": engine_version(),
        },
        "step_times": sim.calibration_for("vllm"),
        "device_measured": sim.measured("vllm"),
        "objective": {"name": config.objective, "metric": metric_of(config)},
        "stock": advice.stock_values,
        "confirmed": confirmed(confirmation) if confirmation else None,
        "real": confirmed(real) if real else None,
        "memory": asdict(advice.memory) | {"text": advice.memory.text} if advice.memory else None,
        "slo": asdict(config.slo) | {"share": config.slo_share},
        "highest_rate": rates(config, advice),
        "search": {
            "settings": sum(1 for _ in advice.space.all()),
            "tried": len(advice.search.tried),
            "complete": advice.search.complete,
            "runs": advice.runs,
            "seconds": advice.seconds,
            "run_cpu_s": advice.run_cpu_s,
            "seed": config.seed,
            "budget_s": config.budget_s,
        },
        "notes": notes(config, advice, real),
    }


def recorded(advice: Advice) -> dict[str, Any] | None:
    """Of a recording: how good the fit to its steps is, and whether the simulator does what was recorded."""
    if advice.recording is None:
        return None
    done = advice.reproduction
    return {
        "fit": fit_facts(advice.recording),
        "reproduced": asdict(done) | {"off": done.off, "text": done.text} if done else None,
    }


def asked_alone(pressure: Pressure | None) -> str:
    """With until=pressure; None where time was up before stock had run."""
    if pressure is None:
        return UNDECIDED
    return OVERLOADED if pressure.overloaded else PRESSURE if pressure.any else KEEP


def why(config: RecommendConfig, advice: Advice, more: MoreTime | None = None) -> str:
    """One sentence."""
    metric = short_name(metric_of(config))
    if advice.pressure is not None and not advice.pressure.any:
        return "nobody waits for memory or for a seat, so that no policy has anything to decide"
    confirmation = advice.confirmation
    if confirmation is None:
        if advice.finalists or not advice.search.complete:
            return "the budget ended before a fresh trace had been run with every finalist"
        return f"nothing that was tried looked better than stock in {metric} and within the guardrails"
    effect = change(confirmation.test.ratio) if confirmation.test.ratio else confirmation.word
    text = f"{confirmation.strategy}: {metric} {effect} on {confirmation.pairs} fresh traces"
    if advice.chosen:
        unsure = f"better, but these traces are too few for its guardrails: {named(confirmation.unsure)}"
        return f"{text}; {unsure if confirmation.unsure else 'all guardrails held'}"
    if confirmation.word == "better":
        return f"{text}, but beyond its guardrail in {named(confirmation.beyond)}"
    if more is not None and more.shows is not None:
        return f"{text}; these pairs show differences from {more.shows:.0%} on"
    if confirmation.pairs < MIN_PAIRS:
        return f"{text}: too few for a verdict, {MIN_PAIRS} at least"
    shown = confirmation.test.smallest_shown(len(advice.finalists))
    detectable = f"; a difference of {shown:.1%} would have shown" if math.isfinite(shown) else ""
    return f"{text}: {confirmation.word}{detectable}"


def besides(config: RecommendConfig, advice: Advice) -> list[str]:
    """The other finalists on the same traces: why it is not the one that a reader may have expected."""
    found = []
    for done in advice.confirmations:
        if done is advice.confirmation or not done.test.ratio:
            continue
        doubts = f", but beyond its guardrail in {named(done.beyond)}" if done.beyond else ""
        if done.unsure and not done.beyond:
            doubts = f", but unsure: {named(done.unsure)}"
        found.append(f"{done.strategy} {change(done.test.ratio)}, {done.word}{doubts}")
    return found


def longer(words: Sequence[str], more: MoreTime) -> str:
    """The same command with as much time, and as many traces, as would bring an answer."""
    own = [word for word in words if word.partition("=")[0] not in ("budget", "search.confirm_seeds")]
    return again([*own, f"budget={more.minutes}min", f"search.confirm_seeds={more.pairs}"])


def again(words: Sequence[str]) -> str:
    """The command, without what ended it early."""
    return shlex.join(["bidkv-recommend", *(word for word in words if word.partition("=")[0] != "until")])


def named(metrics: Sequence[str]) -> str:
    return ", ".join(short_name(metric) for metric in metrics)


def command(config: RecommendConfig, advice: Advice, candidate: Candidate) -> str:
    strategy = advice.space.strategy(candidate)
    job = JobConfig(strategy, config.workload, config.engine, config.run)
    return serving_command(job.engine_used, replace(strategy, engine={}), config.model)


def confirmed(confirmation: Confirmation) -> dict[str, Any]:
    """Effects with 95 % paired intervals, and what became of the guardrails."""
    return {
        "strategy": confirmation.strategy,
        "pairs": confirmation.pairs,
        "verdict": confirmation.word,
        "effects": [asdict(effect) for effect in confirmation.effects],
        "guardrails": [asdict(check) for check in confirmation.guardrails],
    }


def rates(config: RecommendConfig, advice: Advice) -> dict[str, Any] | None:
    """In requests (sessions) a second, or in multiples of a recorded trace's speed."""
    found: HighestRates | None = advice.rates
    if found is None:
        return None
    scale = config.workload.rate or 1.0
    unit = "times the recorded rate"
    if config.workload.rate:
        unit = "sessions/s" if config.workload.arrivals.kind == "sessions" else "req/s"
    values = {
        "unit": unit,
        "traces": len(found.rates[advice.stock]),
        "stock": scale * found.mean(advice.stock),
    }
    values["stock_gpu_h_per_mtok"] = found.cost(advice.stock)
    if advice.chosen:
        test = found.paired(advice.stock, advice.chosen)
        values["recommended"] = scale * found.mean(advice.chosen)
        values["recommended_gpu_h_per_mtok"] = found.cost(advice.chosen)
        values["ratio"] = asdict(test.ratio) if test and test.ratio else None
    return values


def notes(config: RecommendConfig, advice: Advice, real: Confirmation | None) -> list[str]:
    """What a reader must know of these numbers."""
    sim, search = config.engine.sim, advice.search
    found = []
    if not sim.measured("vllm"):
        found.append(
            f"nobody measured {sim.model_shape.name} on {sim.hardware.name}: step times are {sim.calibration_for('vllm')}; "
            "bidkv-calibrate fits them to a real engine's steps"
        )
    cut = cut_line(config)
    if cut is not None:
        found.append(cut)
    if real is None:
        found.append(
            "simulated: vLLM's real scheduler, modelled step times; confirm=real runs it on the engine itself"
        )
    if advice.pressure is not None and not advice.pressure.any:
        return found
    if not search.complete:
        tried, all_of = len(search.tried), sum(1 for _ in advice.space.all())
        found.append(f"the budget ended the search early: {tried} of {all_of} settings were tried")
    if advice.rates is None and config.search.rate_seeds and config.until == "answer":
        closed = config.workload.arrivals.kind == "closed_loop"
        found.append(
            "a closed loop has no rate" if closed else "the budget ended before the highest rate was found"
        )
    return found


def write_json(found: dict[str, Any], path: str) -> None:
    """Replaces the file only once all is written."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_text(as_json(found) + "\n")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def as_json(found: dict[str, Any]) -> str:
    """Numbers that JSON has no word for become null."""
    return json.dumps(_plain(found), indent=2, allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(some) for key, some in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(some) for some in value]
    if isinstance(value, Interval):
        return _plain(asdict(value))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
