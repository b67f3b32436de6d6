"""The README's main command, as it is, on real vLLM: what `make bench` promises."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from commands import bench, store_uri, stored
from mlflow.tracking import MlflowClient

STRATEGIES = ["preempt-evict", "largest-first", "bidkv"]


@pytest.mark.e2e
def test_the_default_job_keeps_its_promises(tmp_path):
    done = bench(tmp_path, timeout=900, new_store=True)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = stored(tmp_path, "run")
    assert [run.data.tags["strategy"] for run in runs] == STRATEGIES
    assert len({run.data.tags["trace_hash"] for run in runs}) == 1
    client = MlflowClient(store_uri(tmp_path))
    victims = {}
    for run in runs:
        strategy, tags, metrics = run.data.tags["strategy"], run.data.tags, run.data.metrics
        assert tags["engine"] == "vllm" and tags["pressure"] == "ok" and tags["degraded"] == "false"
        folder = tmp_path / strategy
        folder.mkdir()
        events_file = client.download_artifacts(run.info.run_id, "events.jsonl", str(folder))
        events = [json.loads(line) for line in open(events_file)]
        preemptions = [event for event in events if event["type"] == "preempt"]
        assert len(preemptions) >= 30, strategy
        assert {event["source"] for event in preemptions} == {"strategy"}
        victims[strategy] = [event["victim"] for event in preemptions]

        requests = pd.read_parquet(
            client.download_artifacts(run.info.run_id, "requests.parquet", str(folder))
        )
        assert (requests.status == "ok").all()
        assert (requests.output_tokens == requests.true_output_tokens).all()
        expected = requests.prompt_tokens + requests.output_tokens - 1 + requests.recomputed_tokens
        assert (requests.executed_tokens == expected - requests.cached_tokens).all()
        assert requests.preemptions.sum() == len(preemptions)
        assert metrics["tokens_recomputed"] > 0
    assert len({tuple(sequence) for sequence in victims.values()}) == 3
    for text in (*STRATEGIES, "preemptions", "SLO met", "figure"):
        assert text in done.stdout
