"""The table that a sweep prints at its end. What else it prints: test_sweep.py."""

from __future__ import annotations

import io

from rich.console import Console

from ray_jobs.drive.summary import Row, summary_tables, summary_text


def rows(count: int) -> list[Row]:
    metrics = {"completion_rate": 1.0, "ttft_p50_s": 0.1234, "ttft_p90_s": 1.01, "tpot_mean_s": 0.00843, "e2e_mean_s": 1.46,
               "e2e_p90_s": 12.79, "throughput_tok_s": 1406.2, "slo_attainment": 0.992, "preemptions": 1270.0,
               "executed_tax": 0.0156, "nominal_tax": 0.05}  # fmt: skip
    return [Row("mixed, 11 req/s, vllm_sim", f"preempt-evict-{i}", metrics, {}) for i in range(count)]


def test_the_means_of_twelve_strategies_fit_eighty_columns_and_nothing_is_cut():
    console = Console(file=io.StringIO(), width=80)
    for table in summary_tables(rows(12)):
        console.print(table)
    text = console.file.getvalue()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in text
    for i in range(12):
        line = next(line for line in lines if f"preempt-evict-{i} " in line)
        for value in ("0.123", "1.01", "8.43", "1.46", "12.8", "1406", "99.2%", "1270", "1.6%"):
            assert value in line
    assert "nominal" in summary_text(rows(2)) and "nominal" not in text
