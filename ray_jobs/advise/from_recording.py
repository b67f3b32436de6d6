"""The engine of a recording: its limits as it had them, its step times by a fit to its own steps; and whether a simulation
of it does what it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ray_jobs.advise.config import RecommendConfig
from ray_jobs.engines.config import LIMITS, EngineConfig
from ray_jobs.engines.sim.build import work_of
from ray_jobs.engines.sim.calibration import Calibration
from ray_jobs.engines.sim.fit import MIN_STEPS, StepErrors, fit
from tracking.errors import require
from tracking.recorded.read import Recorded, largest, read_recordings
from tracking.recorded.strategies import PARAMETERS, RULES, STOCK, all_decided, decided
from tracking.typed import Idle

KEY = "workload.source.path"
SIMULATED = (
    "kv_groups", "host_memory", "block_size", "max_model_len", "max_num_batched_tokens", "scheduler",
)  # fmt: skip
FIT_STEPS = 10_000  # the latest ones: more tell nothing new
HOLD_OUT = 0.25


@dataclass(frozen=True)
class FittedEngine:
    """What was taken from a recording. `latencies` are those of its answered requests in the order of arrival: `e2e_s`,
    `preemptions`. `left_out` starts in the same folder were not looked at."""

    name: str
    left_out: int
    engine: EngineConfig
    held_out: StepErrors
    latencies: pd.DataFrame


def is_recorded(config: RecommendConfig) -> bool:
    return config.workload.source.kind == "recorded"


def idle_recorded_keys(config: RecommendConfig) -> Iterator[Idle]:
    """What the recording itself says of the engine."""
    if not is_recorded(config):
        return
    for key in (*LIMITS, "kv_offload_gib", "gpu_memory_utilization"):
        yield Idle(f"engine.{key}", f"{KEY} has the engine as it was; what else could be tried is in space=")
    for key in ("calibration", "async_scheduling", "reserved_bytes"):
        yield Idle(f"engine.sim.{key}", f"step times are fitted to the steps in {KEY}")
    yield Idle("deployed", f"the engine is that of {KEY}")


def fitted_engine(config: RecommendConfig) -> FittedEngine:
    """Raises ValueError where the engine cannot be simulated as it was recorded."""
    path = config.workload.source.path
    starts = read_recordings(path, KEY)
    recorded = largest(starts)
    _check(recorded, config, path)
    head, engine, sim = recorded.head, config.engine, config.engine.sim
    steps = recorded.steps.tail(FIT_STEPS).reset_index(drop=True)
    steps["step"] = np.arange(len(steps))
    shape = replace(sim.model_shape, name=str(head["model"]), source=f"the recording {path}")
    hardware = replace(sim.hardware, name=f"the device of {Path(path).name}", nominal=True)
    require(
        (1 - HOLD_OUT) * len(steps) > MIN_STEPS, KEY, path,
        f"a recording with more than {MIN_STEPS / (1 - HOLD_OUT):.0f} steps to fit; this has {len(steps)}",
    )  # fmt: skip
    fitted, _, held_out = fit([steps], shape, hardware, Calibration(), HOLD_OUT, work_of(shape))
    origin = {
        "model_shape": shape.name,
        "hardware": hardware.name,
        "recording": recorded.name,
    } | fitted.origin
    calibration = replace(fitted, name=f"fitted to {Path(path).name}", fitted=True, origin=origin)
    own = replace(
        engine, model=shape.name, block_size=head["block_size"], num_blocks=head["num_blocks"] + 1,
        max_num_seqs=head["max_num_seqs"], max_model_len=head["max_model_len"],
        max_num_batched_tokens=head["max_num_batched_tokens"], prefix_caching=head["prefix_caching"],
        sim=replace(
            sim, model_shape=shape, hardware=hardware, calibration=calibration,
            async_scheduling=head["scheduler"] == "async",
        ),
    )  # fmt: skip
    return FittedEngine(recorded.name, len(starts) - 1, own, held_out, _latencies(recorded))


def _check(recorded: Recorded, config: RecommendConfig, path: str) -> None:
    head, engine = recorded.head, config.engine
    require(
        engine.kind == "vllm_sim", "engine.kind", engine.kind, "vllm_sim for a recording, which is simulated"
    )
    require(
        str(head["engine"]).startswith("vllm"), KEY, path,
        f"a recording of vLLM, whose scheduler is what is simulated; {recorded.name} is of {head['engine']}, which starts and retracts "
        "others: bidkv-explain reads it, and bidkv-bench plays its traffic to an engine (workload=recorded)",
    )  # fmt: skip
    missing = [key for key in SIMULATED if head.get(key) is None]
    require(
        not missing,
        KEY,
        path,
        f"a recording that says {', '.join(missing)} of its engine; {recorded.name} does not",
    )
    require(
        head["kv_groups"] == ["FullAttentionManager"] and not head["host_memory"], KEY, path,
        "a recording of full attention in one KV cache group, without a KV connector; for others give "
        f"workload=csv and the engine; it has {', '.join(head['kv_groups'])}",
    )  # fmt: skip
    under = all_decided(recorded.strategies) or [STOCK]
    own = config.strategy
    given = decided({"strategy": own.name} | {key: getattr(own, key) for key in (*RULES, *PARAMETERS)})
    require(
        under == [given], "strategy", given,
        f"{' and '.join(under)}, under which {path!r} was recorded" + ("; record under one" if len(under) > 1 else ""),
    )  # fmt: skip


def _latencies(recorded: Recorded) -> pd.DataFrame:
    table = recorded.requests
    table = table[(table["output"] >= 1) & (table["prompt"] >= 1)].sort_values("arrival_t", kind="stable")
    e2e = table["finish_t"].astype(float) - table["arrival_t"].astype(float)
    return pd.DataFrame({"e2e_s": e2e, "preemptions": table["preemptions"]}).reset_index(drop=True)


def fit_facts(found: FittedEngine) -> dict[str, Any]:
    """For the answer."""
    errors = found.held_out
    unit = "step" if errors.window == 1 else f"{errors.window} steps"
    others = ""
    if found.left_out:
        others = f"of {found.left_out + 1} starts in the folder {found.name}, which has the most requests, alone is taken; "
    return {
        "recording": found.name,
        "held_out_steps": errors.steps,
        "total": errors.total,
        "median": errors.median,
        "p90": errors.p90,
        "left_out": found.left_out,
        "text": f"{others}step times are fitted to the recording itself; on {errors.steps:,} held-out steps all time is off by "
        f"{errors.total:+.1%}, that of {'a step' if errors.window == 1 else unit} by {errors.median:.1%} (median), "
        f"{errors.p90:.1%} (p90)",
    }
