"""Blocks of paired runs: what is in one, in which order, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

import ray_jobs.run  # noqa: F401  registers the schema
from ray_jobs.drive.plan import plan_blocks, window_lines
from ray_jobs.drive.planning import LONG, PlanningBar

CONF = str(Path(__file__).parents[2] / "conf")


def job(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        config = compose(
            "config",
            ["workload=mixed", "workload.num_requests=20", "workload.warmup_requests=16", *overrides],
        )
    return OmegaConf.to_object(config)


def labels(block):
    return [run.job.strategy.label for run in block]


def test_a_block_holds_every_strategy_on_one_trace_in_rotated_order():
    jobs = [
        job(f"strategy={strategy}", f"seed={seed}")
        for strategy in ("preempt-evict", "lcf", "bidkv")
        for seed in (0, 1, 2)
    ]
    blocks = plan_blocks(jobs)
    assert [labels(block) for block in blocks] == [
        ["preempt-evict", "lcf", "bidkv"],
        ["lcf", "bidkv", "preempt-evict"],
        ["bidkv", "preempt-evict", "lcf"],
    ]
    for number, block in enumerate(blocks):
        assert len({run.trace.hash for run in block}) == 1
        assert [(run.block, run.position) for run in block] == [(number, i) for i in range(3)]
    assert len({block[0].trace.hash for block in blocks}) == 3


def test_everything_that_changes_a_run_changes_its_hash_and_nothing_else_does():
    base = plan_blocks([job("strategy=bidkv")])[0][0].config_hash
    for override in (
        "seed=1",
        "workload.rate=9",
        "engine.num_blocks=199",
        "strategy.admission=fcfs",
        "repeat=1",
    ):
        assert plan_blocks([job("strategy=bidkv", override)])[0][0].config_hash != base, override
    for override in ("cluster=ray", "tracking.experiment=other"):
        assert plan_blocks([job("strategy=bidkv", override)])[0][0].config_hash == base, override


def test_equal_runs_are_refused_unless_labelled():
    with pytest.raises(ValueError, match="strategy.label"):
        plan_blocks([job("strategy=lcf"), job("strategy=lcf")])
    block = plan_blocks([job("strategy=lcf"), job("strategy=lcf", "strategy.label=lcf again")])[0]
    assert labels(block) == ["lcf", "lcf again"]
    with pytest.raises(ValueError, match="strategy.label='x'.*bidkv.*lcf"):
        plan_blocks([job("strategy=bidkv", "strategy.label=x"), job("strategy=lcf", "strategy.label=x")])


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        (["strategy=bidkv"], "bidkv"),
        (["strategy=bidkv", "strategy.admission=fcfs"], "bidkv[admission=fcfs]"),
        (["strategy=lcf", "strategy.victim=largest"], "lcf[victim=largest]"),
        (["strategy=bidkv", "strategy.params.completion_weight=2.0"], "bidkv[completion_weight=2.0]"),
        (["engine=vllm_sim", "strategy=lcf", "strategy.retention=gdsf"], "lcf[retention=gdsf]"),
        (["engine=vllm_sim", "strategy=lcf", "strategy.retention=lru"], "lcf"),
        (["strategy=bidkv", "strategy.label=mine"], "mine"),
    ],
)
def test_a_label_says_what_differs_from_the_named_pair(overrides, label):
    assert job(*overrides).strategy.label == label


def test_a_retention_that_could_decide_nothing_is_refused():
    with pytest.raises(ValueError, match="strategy.retention='gdsf'.*lru without a prefix cache"):
        job("engine=vllm_sim", "engine.prefix_caching=false", "strategy=lcf", "strategy.retention=gdsf")
    with pytest.raises(ValueError, match="strategy.retention='gdsf'.*on SGLang.*lru, lfu, slru, tlru"):
        job("engine=sglang_cpu", "engine.python=null", "strategy=lcf", "strategy.retention=gdsf")
    with pytest.raises(ValueError, match="strategy.retention='gdfs'.*gdsf"):
        job("engine=vllm_sim", "strategy=lcf", "strategy.retention=gdfs")


def test_an_admission_that_could_see_nothing_is_refused():
    with pytest.raises(ValueError, match="strategy.admission='kept-first'.*without a prefix cache"):
        job("engine=vllm_sim", "engine.prefix_caching=false", "strategy=kept-first", "strategy.retention=lru")
    with pytest.raises(ValueError, match="strategy.admission='kept-first'.*on SGLang"):
        job("engine=sglang_cpu", "engine.python=null", "strategy=kept-first", "strategy.retention=lru")


def test_runs_with_the_engines_own_retention_are_those_planned_before_there_was_any():
    hashes = {
        plan_blocks([job("engine=vllm_sim", "strategy=lcf", *more)])[0][0].config_hash
        for more in ([], ["strategy.retention=lru"], ["strategy.retention=gdsf"])
    }
    assert len(hashes) == 2


def test_an_engines_own_knob_is_compared_in_one_block_with_the_strategies():
    jobs = [
        job(f"strategy={name}") for name in ("preempt-evict", "stock-watermark-0.02", "stock-seqs-16", "lcf")
    ]
    (block,) = plan_blocks(jobs)
    assert labels(block) == ["preempt-evict", "stock-watermark-0.02", "stock-seqs-16", "lcf"]
    plain, watermark, fewer, lcf = (run.job.engine_used for run in block)
    assert plain == lcf == block[0].job.engine, "the same engine runs both"
    assert watermark.extra == plain.extra | {"watermark": 0.02} and watermark != plain
    assert fewer.max_num_seqs == 16
    assert (
        job("strategy=preempt-evict", "+strategy.engine.watermark=0.1").strategy.label
        == "preempt-evict[watermark=0.1]"
    )


def test_a_strategy_does_not_change_what_a_comparison_keeps_equal():
    with pytest.raises(ValueError, match="strategy.engine='max_model_len'.*max_num_seqs"):
        job("strategy=preempt-evict", "+strategy.engine.max_model_len=64")


def test_seeds_whose_windows_of_a_file_overlap_are_refused_and_the_gap_is_told(tmp_path):
    path = tmp_path / "azure.csv"
    rows = [f"2023-11-16 18:{n // 60:02}:{n % 60:02}.0,{n + 1},9" for n in range(100)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))

    def jobs(seeds):
        settings = [
            "workload=azure_conv",
            f"workload.source.path={path}",
            "workload.num_requests=30",
            "workload.warmup_requests=0",
        ]
        return [
            job(*settings, f"strategy={name}", f"seed={seed}") for seed in seeds for name in ("lcf", "bidkv")
        ]

    blocks = plan_blocks(jobs((7, 8, 9)))
    assert {run.facts(1, "").tags["rows"] for block in blocks for run in block} == {
        "0:30/100",
        "35:65/100",
        "70:100/100",
    }
    assert window_lines(blocks) == [
        "azure_conv replay x1: 3 windows of 30 requests, the nearest 5 apart; the file's 100 hold 3 such "
        "windows; less than a window, so the interval is one of blocks of neighbours"
    ]
    with pytest.raises(ValueError, match="must be at most 3 in a row, or workload.num_requests at most 25"):
        plan_blocks(jobs((7, 8, 9, 10)))


def test_cells_of_one_workload_and_load_are_told_apart_in_what_a_sweep_prints():
    def groups(*overrides):
        runs = [run for block in plan_blocks([job(*o) for o in overrides]) for run in block]
        return [run.group for run in runs], [run.name for run in runs]

    sim = "engine=vllm_sim"
    (few, many), names = groups([sim, "engine.num_blocks=600"], [sim, "engine.num_blocks=1200"])
    assert few.endswith("vllm_sim, engine.num_blocks=600") and many.endswith(", engine.num_blocks=1200")
    assert names[0].endswith("engine.num_blocks=600")
    (one, other), _ = groups(
        [sim, "hardware@engine.sim.hardware=l4"], [sim, "hardware@engine.sim.hardware=a10g"]
    )
    assert one.endswith(", engine.sim.hardware.name=L4") and other.endswith(", engine.sim.hardware.name=A10G")
    fleet = [sim, "engine.replicas=4"]
    (sticky, _), _ = groups(
        [*fleet, "router@engine.router=sticky"], [*fleet, "router@engine.router=least-kv"]
    )
    assert sticky.endswith(", engine.router.name=sticky")
    (alone, again), _ = groups([sim, "seed=0"], [sim, "seed=1"])
    assert alone == again and alone.endswith("vllm_sim")


@pytest.mark.parametrize(("runs", "words"), [(LONG, [f"planning {LONG} runs"]), (LONG - 1, [])])
def test_a_long_sweep_without_a_terminal_says_that_it_is_being_planned(runs: int, words: list[str]) -> None:
    console = Console(file=io.StringIO())
    PlanningBar(console, runs).end()
    assert [line.partition(":")[0] for line in console.file.getvalue().splitlines()] == words
