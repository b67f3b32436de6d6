"""What `ray_jobs.recommend` decides, on made-up runs; and the command itself on a tiny simulated engine."""

from __future__ import annotations

import io
import json
import math
import os
import shlex
import subprocess
import sys
import time
import zlib
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from commands import in_background
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

import ray_jobs.recommend  # noqa: F401 (registers the configuration's schema)
from ray_jobs.advise.advise import Advice, advise_in, fresh_blocks
from ray_jobs.advise.allot import Pace, confirm_within
from ray_jobs.advise.answer import KEEP, OVERLOADED, UNDECIDED, answer, as_json, why, write_json
from ray_jobs.advise.config import RecommendConfig, seconds_of
from ray_jobs.advise.confirm import confirm
from ray_jobs.advise.file_sizes import cut_line, fitted_to_file, refuse_shortened
from ray_jobs.advise.here import here
from ray_jobs.advise.lab import sized
from ray_jobs.advise.more import time_for
from ray_jobs.advise.rates import faster
from ray_jobs.advise.render import effects, print_answer
from ray_jobs.advise.search import Search
from ray_jobs.advise.serving import serving_command
from ray_jobs.advise.space import Candidate, Space
from ray_jobs.advise.traces import CONFIRM, SEARCH, SEEDS_OF_A_RUN, trace_of
from ray_jobs.workload.freeze import freeze_trace
from tracking.cli import CONF
from tracking.result import RunResult
from tracking.store.reader import StoredRun

ROOT = Path(__file__).parents[2]
TINY = [
    "engine=vllm_sim", "model_shape@engine.sim.model_shape=tiny-llama",
    "hardware@engine.sim.hardware=local-cpu", "calibration@engine.sim.calibration=uncalibrated",
    "engine.max_model_len=512", "engine.num_blocks=64", "engine.max_num_batched_tokens=512",
    "engine.max_num_seqs=16", "workload=mixed", "workload.length_scale=0.1", "workload.rate=400",
]  # fmt: skip
QUICK = ["search.requests=100", "search.confirm_requests=200", "search.rate_requests=50"]
SMALL = [
    "search.requests=40", "search.confirm_requests=40", "search.rate_requests=40", "search.rate_seeds=2",
    "search.rungs=[{seeds: 1, keep: 2}, {seeds: 2, keep: 1, grow: true}]", "search.precision=0.2",
    "space.watermark=[0]", "space.max_num_batched_tokens=[1]",
]  # fmt: skip


def configured(*overrides: str) -> RecommendConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("recommend", list(overrides)))


class MadeUpLab:
    """Runs whose latencies are `factors` (by label, 1 for others) times stock's, with noise a trace."""

    def __init__(
        self, config: RecommendConfig, factors: dict[str, float], tails: dict[str, float] | None = None
    ):
        self.config, self.space = config, Space(config.space, config.engine)
        self.factors, self.tails = factors, tails or {}
        self.noise: dict[
            str, list[float]
        ] = {}  # of a label, a factor for each trace in turn; else 1 % at random
        self.done: dict[tuple, StoredRun] = {}
        self.cpu_s = 0.0
        self.processes = 2
        self.own_tail: dict[str, float] = {}  # log-sigma of a label's largest latencies, from trace to trace
        self.queue = {
            "waited_share": 0.5,
            "blocked_share": 0.2,
            "backlog": 0.02,
            "arrive_req_s": 10.0,
            "served_req_s": 9.9,
        }
        self.spared = True  # whether devices compute prompts for as much less time
        self.deadline_after: int | None = None  # runs, after which time is up

    def run(self, what, wanted, deadline=np.inf):
        found = {}
        for candidate, workload, seed in wanted:
            key = (candidate, seed, workload.rate, workload.num_requests)
            if key not in self.done and (self.deadline_after is None or len(self.done) < self.deadline_after):
                self.done[key] = self._made_up(candidate, workload, seed)
                self.cpu_s += 1.0
            if key in self.done:
                found[candidate, seed] = self.done[key]
        return found

    def _made_up(self, candidate: Candidate, workload, seed: int) -> StoredRun:
        label = candidate.label
        # What all have on a trace, and a little of their own.
        e2e = np.random.default_rng(seed).lognormal(0, 1, workload.num_requests)
        own = np.random.default_rng([seed, zlib.crc32(label.encode())]).normal(1, 0.01)
        if label in self.noise:
            own = self.noise[label][seed % len(self.noise[label])]
        e2e = e2e * self.factors.get(label, 1.0) * own
        slow = e2e > np.quantile(e2e, 0.98)
        tail = np.random.default_rng([seed, 9]).lognormal(0, self.own_tail.get(label, 0.0))
        e2e = np.where(slow, e2e * self.tails.get(label, 1.0) * tail, e2e)
        requests = pd.DataFrame(
            {
                "kind": "", "status": "ok", "warmup": False, "scheduled_t": 0.0, "first_token_t": e2e / 2,
                "finish_t": e2e, "output_tokens": 10, "deadline_s": np.nan,
            }
        )  # fmt: skip
        metrics = {
            "requests": float(len(e2e)), "e2e_largest_s": e2e.mean(), "ttft_largest_s": e2e.mean(), "e2e_rmst_s": e2e.mean(), "ttft_rmst_s": e2e.mean() / 2,
            "session_mean_s": 8 * e2e.mean(), "session_p90_s": 20 * e2e.mean(), "cached_share": 0.5,
            "throughput_tok_s": 100.0, "goodput_req_s": 1.0, "completion_rate": 1.0, "gpu_h_per_mtok": 0.2,
            "prompt_gpus": 0.5 * (self.factors.get(label, 1.0) if self.spared else 1.0), "recomputed_gpu_s": 0.1, "slo_attainment": float(workload.rate * self.factors.get(label, 1.0) < 14),
        } | self.queue  # fmt: skip

        def no_result() -> RunResult:
            raise AssertionError("nobody needs it")

        tags = {"strategy": label, "seed": str(seed), "trace_hash": f"trace {seed}"}
        return StoredRun(str((label, seed)), label, tags, {}, metrics, no_result, lambda: requests)


def advised(lab: MadeUpLab):
    return advise_in(lab, time.monotonic())


def test_the_best_pair_of_settings_is_found_and_told_in_fresh_numbers():
    config = configured(*QUICK)
    best = "backfill[watermark=0.05,max_num_seqs=64]"
    lab = MadeUpLab(config, {"backfill": 0.95, "backfill[watermark=0.05]": 0.9, best: 0.8, "boost": 0.97})
    advice = advised(lab)
    assert advice.chosen.label == best
    found = answer(config, advice)
    ratio = {e["metric"]: e["ratio"] for e in found["confirmed"]["effects"]}["e2e_rmst_s"]
    assert ratio["low"] <= 0.8 <= ratio["high"] and ratio["high"] - ratio["low"] < 0.05
    assert found["highest_rate"]["recommended"] > found["highest_rate"]["stock"]
    assert "--watermark 0.05" in found["command"] and "--max-num-seqs 64" in found["command"]
    assert "--strategy backfill " in found["command"]
    assert json.loads(as_json(found))["recommendation"] == best


def test_a_setting_has_to_gain_more_than_its_doubt():
    """Of 18 settings some look good by chance: what gains less than its standard error stays as it is."""
    config = configured(*QUICK)
    plain, changed = "backfill", "backfill[watermark=0.02]"

    def chosen(gain: float, noise: list[float]) -> str:
        lab = MadeUpLab(config, {plain: 0.8, changed: 0.8 * gain})
        labels = [candidate.label for candidate in lab.space.all() if candidate.strategy == "backfill"]
        lab.noise = dict.fromkeys(labels, [1.0]) | {changed: noise}
        return advised(lab).chosen.label

    assert chosen(0.97, [1.0, 1.0]) == changed, "3 % on every trace"
    assert chosen(0.995, [1.0, 1.0]) == plain, "less than search.per_setting"
    assert chosen(0.97, [0.9, 1.1]) == plain, "3 % that are 10 % more or less from trace to trace"


def test_what_too_few_requests_leave_unsaid_is_a_dash():
    lab = MadeUpLab(configured(*QUICK), {"backfill": 0.8})
    found = answer(lab.config, advised(lab))
    unsaid = next(e for e in found["confirmed"]["effects"] if e["metric"] == "ttft_p99_s")
    unsaid |= {"stock": math.nan, "candidate": math.nan}
    console = Console(file=io.StringIO(), width=100)
    console.print(effects(found["confirmed"], "simulated"))
    row = next(line for line in console.file.getvalue().splitlines() if "p99 TTFT" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")][1:4] == ["-", "-", "-"]


def test_confirmation_is_on_traces_that_the_search_never_saw():
    lab = MadeUpLab(configured(*QUICK), {"backfill": 0.8})
    advised(lab)
    settings = lab.config.search
    searched = {key[1] for key in lab.done if key[3] == settings.requests and key[1] < 100_000}
    confirmed = {key[1] for key in lab.done if key[3] == settings.confirm_requests}
    assert len(confirmed) == settings.confirm_seeds and searched and not searched & confirmed


def test_nothing_better_means_keep_stock():
    advice = advised(lab := MadeUpLab(configured(*QUICK), {}))
    found = answer(lab.config, advice)
    assert advice.chosen is None and found["recommendation"] == KEEP
    assert found["command"] == found["stock_command"] and found["command"].startswith("vllm serve ")


def test_a_broken_guardrail_is_not_recommended():
    config = configured(*QUICK, "search.rungs=[{seeds: 1, keep: 2}]")
    config.space.strategies = {"backfill": config.space.strategies["backfill"]}
    factors, tails = {"backfill": 0.7}, {"backfill": 2.5}
    assert advised(MadeUpLab(config, factors, tails)).chosen is None
    unguarded = replace(config, guardrails=replace(config.guardrails, rules=[]))
    assert advised(MadeUpLab(unguarded, factors)).chosen == Candidate("backfill")


def test_where_the_best_breaks_a_guardrail_on_fresh_traces_the_next_strategy_has_its_turn():
    class Late(MadeUpLab):
        """What the tails are like shows on fresh traces alone."""

        def _made_up(self, candidate, workload, seed):
            fresh = seed % SEEDS_OF_A_RUN >= CONFIRM
            self.tails = {candidate.label: 2.5} if fresh and candidate.strategy == "boost" else {}
            return super()._made_up(candidate, workload, seed)

    lab = Late(configured(*QUICK, "space.always=null"), {"boost": 0.6, "backfill": 0.8, "bidkv2": 0.9})
    advice = advised(lab)
    assert [c.strategy for c in advice.finalists[:2]] == ["boost", "backfill"]
    assert len(advice.confirmations) == 2
    assert advice.confirmations[0].beyond and advice.chosen.strategy == "backfill"
    assert why(lab.config, advice).startswith(advice.chosen.label)
    found = answer(lab.config, advice)
    assert found["besides"][0].startswith("boost ") and "besides   boost " in printed(found)
    assert "better, but beyond its guardrail in p99" in found["besides"][0]


def test_who_always_has_a_turn_has_it_whatever_the_search_found():
    lab = MadeUpLab(
        configured(*QUICK), {"boost": 0.6, "token-seconds": 0.7, "bidkv2": 0.8, "boost-slow": 0.9}
    )
    assert advised(lab).finalists[0] == Candidate("backfill")
    lab = MadeUpLab(configured(*QUICK, "space.always=null"), lab.factors)
    assert "backfill" not in {c.strategy for c in advised(lab).finalists}
    with pytest.raises(Exception, match="space.always='nobody': must be null, or of lcf-guard, backfill"):
        configured("space.always=nobody")


def test_a_candidate_that_fails_loses_and_stock_that_fails_is_an_error():
    config = configured(*QUICK)

    class Failing(MadeUpLab):
        error = "RuntimeError: no"

        def _made_up(self, candidate, workload, seed):
            run = super()._made_up(candidate, workload, seed)
            if candidate.strategy in self.failing:
                run.failed, run.metrics = True, {}
                run.tags["error"] = self.error
            return run

    lab = Failing(config, {"backfill": 0.5, "boost": 0.8})
    lab.failing = {"backfill"}
    assert advised(lab).chosen.strategy == "boost"
    lab = Failing(config, {})
    lab.failing = {"stock"}
    with pytest.raises(ValueError, match="simulation of stock failed: RuntimeError: no"):
        advised(lab)
    assert len(lab.done) <= 2, "nobody else ran after stock had failed"
    Failing.error = "TimeoutError: the simulation took longer than engine.sim.wall_timeout_s=120.0"
    for own, words in (
        (1800, r"^budget=\S+: must be longer: one run of stock"),
        (5, "^engine.sim.wall_timeout_s=5: must"),
    ):
        lab = Failing(configured(*QUICK, f"engine.sim.wall_timeout_s={own}"), {})
        lab.failing = {"stock"}
        with pytest.raises(ValueError, match=words):
            advised(lab)


def test_time_that_runs_out_is_said():
    lab = MadeUpLab(configured(*QUICK), {"lcf-guard": 0.8})
    lab.deadline_after = 30
    found = answer(lab.config, advised(lab))
    assert found["recommendation"] == UNDECIDED and "about" in more_line(found)
    assert any("ended the search early" in note for note in found["notes"])
    none = MadeUpLab(lab.config, {})
    none.deadline_after = 0
    with pytest.raises(ValueError, match="budget"):
        advised(none)


def more_line(found: dict) -> str:
    """The line that a reader gets where there is no answer."""
    return next(line for line in printed(found).splitlines() if line.startswith("more"))


def printed(found: dict) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        print_answer(found, "text")
    return out.getvalue()


def test_the_tail_safe_one_is_recommended_before_one_that_is_better_but_unsure():
    lab = MadeUpLab(configured(*QUICK), {"token-seconds": 0.6, "backfill": 0.9})
    advice = advised(lab)
    assert advice.chosen.strategy == "backfill" and not advice.confirmation.unsure
    lab = MadeUpLab(configured(*QUICK), {"backfill": 0.85})
    lab.own_tail = {"backfill": 0.3}  # p99s that differ from trace to trace
    advice = advised(lab)
    found = answer(lab.config, advice)
    assert advice.confirmation.unsure and len(advice.confirmations) == len(advice.finalists)
    assert f"(better, but unsure: {found['but']})" in printed(found)


def test_without_pressure_nothing_is_searched_and_the_load_where_it_begins_is_told():
    class Idle(MadeUpLab):
        def _made_up(self, candidate, workload, seed):
            run = super()._made_up(candidate, workload, seed)
            pressed = workload.rate > 17
            run.metrics |= {
                "preemptions": 3.0 * pressed,
                "blocked_share": 0.0,
                "waited_share": 0.0,
                "kv_util_max": 0.31,
            }
            return run

    lab = Idle(configured(*QUICK), {"backfill": 0.5})
    advice = advised(lab)
    found = answer(lab.config, advice)
    assert found["recommendation"] == KEEP and not advice.search.tried and found["more"] is None
    assert advice.pressure.begins_req_s == pytest.approx(10 * 1.25**3)
    assert (
        "peak KV use 31%, nobody waited: no policy can help at 10 req/s; pressure begins at about 19.5"
        in printed(found)
    )


def test_overload_is_said_with_the_capacity():
    lab = MadeUpLab(configured(*QUICK), {"backfill": 0.8})
    lab.queue |= {"backlog": 0.4, "served_req_s": 2.6, "arrive_req_s": 4.0}
    text = printed(answer(lab.config, advised(lab)))
    assert "overloaded: mean TTFT" in text and "at 4 req/s; the capacity is about 2.6" in text


def test_the_answer_says_where_one_is_on_the_axes_of_the_report():
    lab = MadeUpLab(configured(*QUICK, "until=pressure"), {"backfill": 0.8})
    lab.queue |= {"pool_fits": 34.2}
    assert "here      you are here: 34 requests fit; how near to capacity nobody" in printed(
        answer(lab.config, advised(lab))
    )
    lab.done.clear()
    lab.queue |= {"backlog": 0.4, "served_req_s": 2.6, "arrive_req_s": 4.0}
    found = answer(lab.config, advised(lab))
    assert found["here"]["text"] == "you are here: 34 requests fit, at 154 % of capacity"
    pressure = advised(lab).pressure
    lab.config.workload.load = "95%"
    assert here(lab.config, pressure)["text"] == "you are here: 34 requests fit, at 95 % of capacity"
    assert here(lab.config, None) is None


def test_pressure_alone_is_a_few_runs_and_the_command_that_goes_on():
    lab = MadeUpLab(configured(*QUICK, "until=pressure"), {"backfill": 0.8})
    found = answer(lab.config, advised(lab), words=["workload=h100_mixed", "until=pressure"])
    assert len(lab.done) == 2 and found["next"] == "bidkv-recommend workload=h100_mixed"
    assert "policies can help" in printed(found) and "note      simulated" in printed(found)
    lab.queue |= {"backlog": 0.4, "served_req_s": 2.6, "arrive_req_s": 4.0}
    lab.done.clear()
    assert answer(lab.config, advised(lab))["recommendation"] == OVERLOADED
    lab.deadline_after = 0
    lab.done.clear()
    assert answer(lab.config, advised(lab))["recommendation"] == UNDECIDED


def test_what_these_traces_cannot_show_is_undecided_with_the_time_and_the_command_that_would_do():
    noise = [0.6, 1.4, 0.7, 1.3, 0.75, 1.25, 0.65, 1.35]
    lab = MadeUpLab(configured(*QUICK, "search.rungs=[{seeds: 1, keep: 2}]"), {"backfill": 0.9})
    lab.noise = {"backfill": noise}
    found = answer(lab.config, advised(lab), words=["budget=2min", "workload=h100_mixed"])
    assert (
        found["recommendation"] == UNDECIDED and found["more"]["pairs"] > 8 and found["more"]["shows"] > 0.1
    )
    assert "these pairs show differences from" in found["why"]
    assert f"search.confirm_seeds={found['more']['pairs']}" in more_line(found)
    assert "to tell of backfill, about" in more_line(found)
    assert found["more"]["command"].startswith("bidkv-recommend workload=h100_mixed budget=")


def test_a_second_finalist_that_time_ran_out_for_does_not_take_the_firsts_answer_away():
    config = configured(*QUICK)
    lab = MadeUpLab(config, {"backfill": 0.8, "boost": 0.7})
    blocks = fresh_blocks(
        lab, [Candidate(name) for name in ("stock", "backfill", "boost")], CONFIRM, math.inf
    )
    for key in list(blocks)[2:]:
        del blocks[key]["boost"]
    first, second = confirm(blocks, "stock", ["backfill", "boost"], config, 2)
    assert (first.pairs, first.word, second.pairs) == (8, "better", 2)


@pytest.mark.parametrize(
    ("seconds", "seeds", "requests"),
    [(0.0, 8, 1200), (0.002, 8, 1200), (0.01, 8, 240), (0.02, 7, 171), (1.0, 7, 150)],
)
def test_traces_are_planned_so_that_a_verdict_is_possible(seconds, seeds, requests):
    plan = confirm_within(configured().search, Pace(seconds, 2), 24.0, 30.0)
    assert plan.confirm_seeds == seeds and plan.confirm_requests == max(150, requests)


def test_a_device_that_was_never_measured_is_said():
    config = configured(*QUICK, "hardware@engine.sim.hardware=l4", "engine.num_blocks=520")
    found = answer(config, advised(MadeUpLab(config, {})))
    assert not found["device_measured"] and any("nobody measured" in note for note in found["notes"])
    own = configured(*QUICK)
    assert answer(own, advised(MadeUpLab(own, {})))["device_measured"]


def test_the_space_holds_every_combination_once_and_neighbours_differ_in_one():
    config = configured()
    space = Space(config.space, config.engine)
    points = list(space.all())
    assert len(points) == len(set(points)) == len(space.strategies) * 3 * 3 * 2
    assert "kept-first" not in space.strategies  # the workload has no sessions
    start = Candidate("boost", (("watermark", 0.05),))
    for near in space.neighbours(start):
        assert len(set(near.settings) - set(start.settings)) == 1 and near in points
    whole = Space(config.space, replace(config.engine, max_num_batched_tokens=None))
    assert not any("max_num_batched_tokens" in point.label for point in whole.all())


SESSIONS = ["workload=sessions", "search.rate_seeds=0"]


def test_sessions_are_offered_what_stays_cached_and_host_memory():
    config = configured(*SESSIONS, "engine.kv_offload_gib=16")
    space = Space(config.space, config.engine, sessions=True)
    space.put_first("stock", config.strategy)
    near = {candidate.label for candidate in space.neighbours(Candidate("stock"))}
    assert {"stock[retention=auction]", "stock[kv_offload_gib=64]"} < near
    assert not {"stock[retention=lru]", "stock[kv_offload_gib=16]", "stock[kv_offload_gib=0]"} & near
    own = {candidate.label for candidate in space.neighbours(Candidate("kept-first"))}
    assert "kept-first[retention=lru]" in own and "kept-first[retention=ttl_learned]" not in own
    kept = space.strategy(Candidate("stock", (("retention", "slru"), ("kv_offload_gib", 64.0))))
    assert (kept.retention, kept.kill_switch) == ("slru", False)
    assert kept.engine == {"kv_offload_gib": 64.0, "kv_offload_eviction": "retention"}
    assert space.strategy(Candidate("stock", (("kv_offload_gib", 64.0),))).engine == {"kv_offload_gib": 64.0}
    evicts = replace(config.engine, kv_offload_gib=64.0, kv_offload_eviction="retention")
    line = serving_command(evicts, replace(kept, engine={}), None)
    assert '"eviction_policy": "RetentionEviction"' in line
    assert "--strategy stock --bidkv-retention slru" in line and "--kv-offloading-size 64.0" in line
    uncached = replace(config.engine, prefix_caching=False, kv_offload_gib=0.0)
    bare = Space(config.space, uncached, sessions=True)
    assert "kept-first" not in bare.strategies and not bare.values["kv_offload_gib"]


def test_host_memory_has_its_price_beside_the_same_without_it():
    config = configured(
        *SESSIONS, "workload.num_requests=300"
    )  # whoever is `always` first is not, with sessions
    label = "backfill[kv_offload_gib=64]"
    lab = MadeUpLab(config, {"backfill": 0.9, label: 0.5})
    lab.space = Space(config.space, config.engine, sessions=True)
    found = answer(config, advised(lab))
    assert found["recommendation"] == label
    memory = found["memory"]
    assert found["objective"]["metric"] == memory["objective"]["metric"] == "session_mean_s"
    assert "mean session time" in found["why"] and "mean session time" in memory["text"]
    assert [effect["metric"] for effect in found["confirmed"]["effects"]][:2] == [
        "session_mean_s",
        "session_p90_s",
    ]
    assert memory["gib"] == 64 and memory["objective"]["ratio"]["value"] == pytest.approx(0.5 / 0.9, abs=0.02)
    # The made-up devices compute prompts in half of their time times the factor.
    assert memory["gib_a_gpu"] == pytest.approx(64 / (0.5 * 0.4))
    assert "they pay for themselves where 320 GiB cost less than a GPU" in memory["text"]
    dearer = MadeUpLab(config, {label: 0.5})
    dearer.space = Space(config.space, config.engine, sessions=True)
    dearer.spared = False
    assert "do not show" in answer(config, advised(dearer))["memory"]["text"]


@pytest.mark.parametrize("strategy", ["stock", "backfill-4"])
def test_the_command_is_one_that_vllm_understands(strategy):
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    from bidkv.adapters.vllm import serve

    config = configured("engine.prefix_caching=false")
    engine = replace(config.engine, extra={"watermark": 0.02})
    strategies = {"stock": config.strategy} | config.space.strategies
    words = shlex.split(serving_command(engine, strategies[strategy], None))
    if strategy == "stock":
        assert words[:3] == ["vllm", "serve", "meta-llama/Llama-3.1-8B"]
        flags = words[3:]
    else:
        assert words[:3] == ["python", "-m", "bidkv.adapters.vllm.serve"]
        own, flags = serve._parser().parse_known_args(words[3:])
        assert (own.strategy, own.model) == ("backfill", "meta-llama/Llama-3.1-8B")
        assert own.bidkv_admission_params == {"depth": 4, "alone_after": 0}
    parsed = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser()).parse_args(flags)
    assert (parsed.watermark, parsed.max_num_seqs, parsed.num_gpu_blocks_override) == (0.02, 32, 600)
    assert parsed.enable_prefix_caching is False


def test_a_faster_workload_keeps_its_requests():
    mixed = faster(configured().workload, 1.5)
    assert mixed.rate == 15.0
    replayed = configured("workload=mooncake", "workload.source.path=x").workload
    assert faster(replayed, 2.0).arrivals.time_scale == 0.5


@pytest.mark.parametrize(("text", "seconds"), [(90, 90), ("90s", 90), ("2min", 120), ("1.5 h", 5400)])
def test_budgets(text, seconds):
    assert seconds_of(text) == seconds


def test_json_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "folder" / "answer.json"
    write_json({"x": float("nan")}, str(file))
    assert json.loads(file.read_text()) == {"x": None} and list(file.parent.iterdir()) == [file]
    with pytest.raises(TypeError):
        write_json({("no", "key"): 1}, str(file))
    assert json.loads(file.read_text()) == {"x": None} and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["budget=soon"], ["budget", "'soon'", "2min"]),
        (["objective=median"], ["objective", "'median'", "goodput"]),
        (["engine=sglang"], ["engine.kind", "'sglang'", "vllm_sim"]),
        (["engine=vllm_cpu"], ["engine.sim", "model_shape"]),
        (["confirm=real"], ["confirm", "vllm_shape"]),
        (["space.retention=[lru,belady_oracle]"], ["space.retention", "'belady_oracle'", "ttl_learned"]),
        (["space.kv_offload_gib=[0,32]"], ["space.kv_offload_gib", "sessions"]),
        (["space.watermark=[0.05]"], ["space.watermark", "the engine as it is"]),
        (["workload=mooncake", "workload.source.path=/no/such.jsonl"], ["/no/such.jsonl"]),
        (["workload.ratee=1"], ["ratee"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, overrides, words):
    command = [sys.executable, "-m", "ray_jobs.recommend", f"out={tmp_path}/answer.json", *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    for word in words:
        assert word in line
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_the_command_answers_and_the_same_seed_answers_the_same(tmp_path):
    command = [sys.executable, "-m", "ray_jobs.recommend", "budget=10min", "format=json", *TINY, *SMALL]
    answers = []
    for number in range(2):
        out = tmp_path / f"{number}.json"
        done = subprocess.run(
            [*command, f"out={out}", f"processes={number + 1}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found == json.loads(out.read_text())
        del found["search"]["seconds"], found["search"]["run_cpu_s"]
        answers.append(found)
    assert answers[0] == answers[1] and answers[0]["pressure"]["waited_share"] > 0
    assert answers[0]["confirmed"] is None or answers[0]["confirmed"]["pairs"] == 8
    assert answers[0]["highest_rate"]["traces"] == 2 and not answers[0]["device_measured"]


def test_a_command_that_is_told_to_end_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "ray_jobs.recommend", *TINY, *SMALL, "processes=1"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        in_background(command), cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 120
    while not list(tmp_path.glob("bidkv-*/engine.log")) and time.monotonic() < until:
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.splitlines()[-1] == "interrupted"
    assert workers and not psutil.wait_procs(workers, timeout=20)[1]
    assert not list(tmp_path.glob("bidkv-*"))


def test_windows_of_a_frozen_trace_are_fresh_where_they_confirm(tmp_path):
    whole = freeze_trace(configured("workload.num_requests=1000").workload, 0, 32000, 8192)
    whole.save(tmp_path / "trace.parquet")
    workload = configured("workload=frozen", f"workload.source.path={tmp_path}/trace.parquet").workload
    workload = sized(workload, 100)
    searched, confirmed = (
        [{r.request_id for r in trace_of(workload, part + i, 32000, 8192).requests} for i in range(7)]
        for part in (SEARCH, CONFIRM)
    )
    assert not set.union(*searched) & set.union(*confirmed)
    assert len(set.union(*confirmed)) == 600 and confirmed[6] == confirmed[0] and searched[4] == searched[0]
    first = trace_of(workload, CONFIRM + 1, 32000, 8192)
    assert first.requests[0].arrival_s == 0 and sum(r.warmup for r in first.requests) == 10


def test_what_is_cut_of_a_log_is_a_note_and_pressure_alone_takes_a_shorter_one(tmp_path):
    path = tmp_path / "access.csv"
    path.write_text(
        "time,prompt_tokens,output_tokens\n" + "".join(f"{n},{300 * n},5\n" for n in range(1, 201))
    )
    log = ["workload=csv", f"workload.source.path={path}"]
    assert "173 of 200 requests cut to fit engine.max_model_len=8192" in cut_line(configured(*log))
    assert "173 longer than engine.max_model_len=8192 left out" in cut_line(
        configured(*log, "workload.fit=drop")
    )
    assert cut_line(configured("workload=h100_mixed")) is None
    with pytest.raises(ValueError, match="a log of at least 267 requests"):
        fitted_to_file(configured(*log))
    assert fitted_to_file(configured(*log, "until=pressure")).search.requests == 40
    path.write_text("time,prompt_tokens,output_tokens\n" + "".join(f"{n},30,5\n" for n in range(1000)))
    for typed, fits in (("search.requests=200", False), ("search.requests=100", True)):
        config = configured(*log, typed)
        with (
            nullcontext()
            if fits
            else pytest.raises(ValueError, match="search.requests=200: must be at most 100")
        ):
            refuse_shortened(config, fitted_to_file(config), {"search.requests": 0})


def test_a_log_that_is_long_enough_wants_time_and_not_a_longer_log(tmp_path):
    path = tmp_path / "access.csv"
    for rows, longer in ((1000, True), (100_000, False)):
        path.write_text("time,prompt_tokens,output_tokens\n" + "".join(f"{n},9,5\n" for n in range(rows)))
        config = fitted_to_file(configured("workload=csv", f"workload.source.path={path}"))
        more = time_for(
            config,
            Advice(Space(config.space, config.engine), Candidate("stock"), Search(), {}),
            20,
            0.1,
            "backfill",
        )
        assert bool(more.log_requests) is longer and more.minutes > 2


@pytest.mark.parametrize("arrivals", [[], ["workload.arrivals.kind=poisson", "workload.rate=2"]])
def test_windows_of_a_log_are_fresh_where_they_confirm_and_as_long_as_it_allows(tmp_path, arrivals):
    log = tmp_path / "access.csv"
    log.write_text("time,prompt_tokens,output_tokens\n" + "".join(f"{n},{n + 10},5\n" for n in range(1000)))
    config = fitted_to_file(configured("workload=csv", f"workload.source.path={log}", *arrivals))
    assert (config.search.requests, config.search.confirm_requests) == (100, 75)
    lengths = {
        part: [
            {
                len(r.prompt_token_ids)
                for r in trace_of(sized(config.workload, requests), part + i, 32000, 8192).requests
            }
            for i in range(seeds)
        ]
        for part, requests, seeds in ((SEARCH, 100, 4), (CONFIRM, 75, 8))
    }
    for part, seen in lengths.items():
        assert sum(map(len, seen)) == len(set.union(*seen)), part
    assert not set.union(*lengths[SEARCH]) & set.union(*lengths[CONFIRM])
    log.write_text("time,prompt_tokens,output_tokens\n" + "".join(f"{n},9,5\n" for n in range(100)))
    with pytest.raises(ValueError, match="a log of at least 267 requests"):
        fitted_to_file(configured("workload=csv", f"workload.source.path={log}"))
