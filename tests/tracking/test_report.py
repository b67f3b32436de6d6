"""The report command on a real MLflow store."""

from __future__ import annotations

import re

from report_command import report

from tracking.config import ReportConfig
from tracking.metrics.catalogue import METRICS
from tracking.report import build_page, compare_if_possible
from tracking.store.reader import RunReader


def test_the_page_is_self_contained_and_has_every_section(page):
    html = (page / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    for title in ("In short", "Strategies", "mixed at 3 req/s", "mixed at 8 req/s", "Over the load", "Selector overhead",
                  "One run, request by request", "Environment", "Metrics"):  # fmt: skip
        assert f">{title}</h2>" in html
    assert html.count('<img src="data:image/svg+xml;base64,') >= 9
    assert all(name in html for name in METRICS)
    assert "too few runs" in html and "no pressure" in html
    assert "Spearman" in html


def test_the_markdown_shows_figures_that_are_there(page):
    text = (page / "report.md").read_text()
    names = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert len(names) >= 9
    assert all((page / name).read_bytes()[:4] == b"\x89PNG" for name in names)


def test_the_environment_names_versions_traces_and_configuration(two_loads, page):
    tracking, _ = two_loads
    html = (page / "report.html").read_text()
    for run in RunReader(tracking.uri, tracking.experiment).sweep("latest").runs:
        assert run.trace_hash in html
    assert "git_commit" in html and "engine.num_blocks: &#39;600&#39;" in html


def test_the_page_is_an_artifact_of_the_sweep(two_loads, page):
    tracking, sweep_id = two_loads
    client = RunReader(tracking.uri, tracking.experiment).client
    assert {"report/report.html", "report/report.md", "report/figures"} <= {
        file.path for file in client.list_artifacts(sweep_id, "report")
    }


def test_a_single_seed_has_a_page_without_a_verdict(two_loads):
    tracking, _ = two_loads
    sweep = RunReader(tracking.uri, tracking.experiment).sweep("latest")
    sweep.runs = [run for run in sweep.runs if run.seed == "0" and run.rate == 8.0]
    config = ReportConfig(baseline="preempt-evict")
    page = build_page(sweep, config, *compare_if_possible(sweep, config))
    first = page.sections[0].parts[0]
    assert first.strong and "a single seed (0)" in first.text
    assert {"mixed at 8 req/s", "Environment"} <= {section.title for section in page.sections}


def test_bad_input_writes_nothing(two_loads, tmp_path):
    tracking, _ = two_loads
    for word, said in (("run=zzz", "run='zzz'"), ("baseline=nosuch", "baseline='nosuch'")):
        done = report(f"tracking.uri={tracking.uri}", f"folder={tmp_path}/out", word)
        assert done.returncode == 2
        assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()
