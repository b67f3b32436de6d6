"""The live metrics: what a scrape sees of an engine's events, over runs and over engines."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bidkv.adapters.shared.events import RunLog
from bidkv.adapters.shared.meter import LIVE_METRICS, SOURCES, Meter
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.adapters.vllm.records.metrics import FOLDER_VARIABLE, VLLM_VARIABLE, make_meter

prometheus = pytest.importorskip("prometheus_client")
from prometheus_client.multiprocess import MultiProcessCollector  # noqa: E402

ROOT = Path(__file__).parents[2]
ENGINE = {"model_name": "tiny", "engine": "0"}


def scrape(folder: Path) -> dict[str, float]:
    """The text of a scrape, parsed: values by `name{labels}`."""
    registry = prometheus.CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    lines = prometheus.generate_latest(registry).decode().splitlines()
    return {
        key: float(value) for key, _, value in (x.rpartition(" ") for x in lines if not x.startswith("#"))
    }


def value(folder: Path, name: str, **labels: str) -> float:
    """The one series of that name with these labels."""
    wanted = [f'{key}="{text}"' for key, text in labels.items()]
    found = [
        v
        for key, v in scrape(folder).items()
        if re.match(rf"{name}[{{ ]", key) and all(w in key for w in wanted)
    ]
    (only,) = found
    return only


def preemption(source: str = "strategy", tokens: int = 100, select_ns: int = 4000) -> dict:
    event = {"source": source, "tokens_freed": tokens, "select_ns": select_ns, "hook_ns": 30_000}
    return event | {"candidates": []}


def request(preemptions: int, recomputed: int) -> dict:
    return {"id": "r", "preemptions": preemptions, "recomputed": recomputed}


def test_every_series_is_there_from_the_start(tmp_path: Path) -> None:
    """So that a rate over the first preemption is one, and a dashboard shows zeros and not "no data"."""
    meter = Meter(tmp_path, ENGINE)
    settings = AdapterSettings("lcf-guard", params={"max_preemptions": 2})
    meter.started(settings, settings.build())
    for metric in LIVE_METRICS:
        name = metric.name + ("_sum" if metric.kind == "histogram" else "")
        assert any(key.startswith(name) and 'model_name="tiny"' in key for key in scrape(tmp_path)), (
            metric.name
        )
    assert [value(tmp_path, "bidkv_preemptions_total", source=source) for source in SOURCES] == [0] * 5
    info = value(tmp_path, "bidkv_strategy_info", strategy="lcf-guard", admission="fcfs", victim="lcf-guard")
    assert info == 1 and any('params="{\\"max_preemptions\\": 2}"' in key for key in scrape(tmp_path))


def test_a_run_log_tells_the_meter_what_happened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings, meter = AdapterSettings("lcf"), Meter(tmp_path, ENGINE)
    caplog.set_level(logging.INFO, "bidkv")
    log = RunLog(settings, meter=meter)
    log.start(settings.build(), {})
    for event in (preemption(), preemption(tokens=50, select_ns=900_000), preemption("engine", 7, 0)):
        log.preempt(event)
    assert value(tmp_path, "bidkv_discarded_tokens_total") == 0  # inside a step nothing is counted yet
    log.flush()
    log.request(request(0, 0))
    log.request(request(4, 120))
    log.strategy_error(ValueError("no"))
    log.control_error(ValueError("no"))
    log.unexecuted()
    assert value(tmp_path, "bidkv_preemptions_total", source="strategy") == 2
    assert value(tmp_path, "bidkv_preemptions_total", source="engine") == 1
    assert value(tmp_path, "bidkv_discarded_tokens_total") == 157
    assert value(tmp_path, "bidkv_recomputed_tokens_total") == 120
    assert value(tmp_path, "bidkv_request_preemptions_count") == 2
    assert value(tmp_path, "bidkv_request_preemptions_bucket", le="0.0") == 1
    assert value(tmp_path, "bidkv_request_preemptions_bucket", le="5.0") == 2
    assert value(tmp_path, "bidkv_select_seconds_count") == 2  # the engine's own choice took no selector
    assert value(tmp_path, "bidkv_select_seconds_sum") == pytest.approx(904e-6)
    assert value(tmp_path, "bidkv_select_seconds_bucket", le="5e-06") == 1
    assert value(tmp_path, "bidkv_hook_seconds_count") == 3
    assert (
        value(tmp_path, "bidkv_strategy_errors_total"),
        value(tmp_path, "bidkv_control_errors_total"),
        value(tmp_path, "bidkv_unexecuted_choices_total"),
    ) == (1, 1, 1)
    assert "strategy lcf: admission fcfs, victim lcf, seed 0" in caplog.text


def test_the_kill_switch_is_a_gauge_and_two_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    meter = Meter(tmp_path, ENGINE)
    caplog.set_level(logging.INFO, "bidkv")
    log = RunLog(AdapterSettings("lcf"), meter=meter)
    log.kill_switch(AdapterSettings("lcf", kill_switch=True))
    assert value(tmp_path, "bidkv_kill_switch") == 1
    log.kill_switch(AdapterSettings("lcf"))
    assert value(tmp_path, "bidkv_kill_switch") == 0
    on, off = [record.getMessage() for record in caplog.records]
    assert "kill switch on: the engine decides" in on and "kill switch off: strategy lcf decides" in off


def test_counters_go_on_under_another_strategy_and_info_moves(tmp_path: Path) -> None:
    meter = Meter(tmp_path, ENGINE)
    for name in ("lcf", "bidkv"):
        log = RunLog(AdapterSettings(name), meter=meter)
        log.start(AdapterSettings(name).build(), {})
        log.preempt(preemption())
        log.end()
    assert value(tmp_path, "bidkv_preemptions_total", source="strategy") == 2
    assert value(tmp_path, "bidkv_strategy_info", strategy="lcf") == 0
    assert value(tmp_path, "bidkv_strategy_info", strategy="bidkv") == 1


def test_strategies_that_differ_in_one_rule_or_its_parameters_have_other_labels(tmp_path: Path) -> None:
    meter = Meter(tmp_path, ENGINE)
    for more in ({}, {"retention": "slru"}, {"retention": "slru", "retention_params": {"protected": 3}}):
        settings = AdapterSettings("lcf", **more)
        meter.started(settings, settings.build())
    infos = {key: on for key, on in scrape(tmp_path).items() if key.startswith("bidkv_strategy_info")}
    assert sorted(infos.values()) == [0, 0, 1], infos
    (last,) = (key for key, on in infos.items() if on)
    assert 'retention="slru"' in last and 'retention_params="{\\"protected\\": 3}"' in last


def test_engines_stand_side_by_side(tmp_path: Path) -> None:
    for engine in "01":
        Meter(tmp_path, {"model_name": "tiny", "engine": engine}).preempted(preemption())
    assert [value(tmp_path, "bidkv_preemptions_total", source="strategy", engine=e) for e in "01"] == [1, 1]


CONFIG = SimpleNamespace(
    model_config=SimpleNamespace(served_model_name="tiny"),
    parallel_config=SimpleNamespace(data_parallel_index=1),
)


def test_an_engine_writes_where_its_server_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, vllms = tmp_path / "ours", tmp_path / "vllms"
    monkeypatch.delenv(VLLM_VARIABLE, raising=False)
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert make_meter(CONFIG) is None  # no server, no meter
    monkeypatch.setenv(FOLDER_VARIABLE, str(ours))
    assert make_meter(CONFIG) is None  # the server is on another machine
    for folder, variable in ((ours, FOLDER_VARIABLE), (vllms, VLLM_VARIABLE)):  # vLLM's, where it has one
        folder.mkdir()
        monkeypatch.setenv(variable, str(folder))
        make_meter(CONFIG).preempted(preemption())
        assert value(folder, "bidkv_preemptions_total", source="strategy", engine="1", model_name="tiny") == 1


def test_the_server_shows_its_engines_and_removes_its_folder() -> None:
    script = """
import os, prometheus_client
from types import SimpleNamespace as N
from bidkv.adapters.vllm.records.metrics import FOLDER_VARIABLE, make_meter, show_meters
show_meters(); first = os.environ[FOLDER_VARIABLE]; show_meters()
assert os.environ[FOLDER_VARIABLE] == first
make_meter(N(model_config=N(served_model_name="m"), parallel_config=N(data_parallel_index=0))).strategy_error()
text = prometheus_client.generate_latest().decode()
assert text.count('bidkv_strategy_errors_total{engine="0",model_name="m"} 1.0') == 1, text
print(first)
"""
    variables = {k: v for k, v in os.environ.items() if k not in (FOLDER_VARIABLE, VLLM_VARIABLE)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "bidkv-metrics-" in done.stdout and not Path(done.stdout.strip()).exists()


def test_the_dashboard_asks_for_metrics_that_are_there(tmp_path: Path) -> None:
    """Every query of the Grafana dashboard names series of a scrape (vLLM's own begin with vllm:)."""
    meter = Meter(tmp_path, ENGINE)
    meter.started(AdapterSettings("lcf"), AdapterSettings("lcf").build())
    known = {key.partition("{")[0] for key in scrape(tmp_path)}
    board = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    asked = {name for query in queries for name in re.findall(r"\bbidkv_\w+", query)}
    assert queries and asked <= known, asked - known
    metrics = {metric.name for metric in LIVE_METRICS}
    shown = {m for m in metrics if any(name.startswith(m) for name in asked)}
    assert shown == metrics, f"not on the dashboard: {metrics - shown}"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) and all(p["gridPos"]["w"] <= 24 for p in board["panels"])
