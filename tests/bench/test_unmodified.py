"""vLLM with and without the adapter in one sweep: what `experiment=adapter_cost` compares."""

from __future__ import annotations

import json

import pytest
from commands import bench, store_uri, stored

from ray_jobs.engines.config import EngineConfig
from tracking.evidence.paired import compare
from tracking.store.reader import RunReader

UNMODIFIED = "stock-unmodified"


@pytest.mark.e2e
@pytest.mark.long
def test_vllm_without_the_adapter_is_a_run_of_a_sweep(tmp_path):
    done = bench(
        tmp_path, "experiment=adapter_cost", "engine=vllm_cpu", "workload.num_requests=40", "workload.length_scale=0.5",
        "workload.warmup_requests=4", "seed=0,1", timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [run.data for run in stored(tmp_path, "run")]
    # Blocks turn the order round, so that the engine that is running serves the next block, too.
    order = [UNMODIFIED, "preempt-evict", "preempt-evict", UNMODIFIED]
    assert [run.tags["strategy"] for run in runs] == order
    for run in runs:
        unmodified = run.tags["strategy"] == UNMODIFIED
        assert run.metrics["completion_rate"] == 1 and run.metrics["throughput_tok_s"] > 0
        assert ("preemptions" in run.metrics) == ("executed_tax" in run.metrics) == (not unmodified)
        assert run.tags["pressure"] == ("unknown" if unmodified else "ok")
    for line in done.stdout.splitlines():
        assert not (line.startswith(UNMODIFIED) and "preemptions" in line)
    reader = RunReader(store_uri(tmp_path), "bidkv")
    (table,) = compare(reader.sweep("latest"), UNMODIFIED, ["throughput_tok_s", "preemptions"])
    assert table.find("throughput_tok_s", "preempt-evict").test.pairs == 2
    assert table.find("preemptions", "preempt-evict") is None
    unmodified = next(run for run in reader.sweep("latest").runs if run.strategy == UNMODIFIED)
    assert not unmodified.result.recorded and json.dumps(unmodified.result.environment)


def test_only_vllm_runs_without_the_adapter():
    with pytest.raises(ValueError, match="engine.adapter=False: must be true but for engine.kind=vllm"):
        EngineConfig("sglang", "m", adapter=False)
