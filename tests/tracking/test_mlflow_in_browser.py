"""What MLflow's own pages show of a sweep: its name, the answer, columns that say something, the report."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from browser import PATIENCE_MS, chromium

from tracking.store.address import page_of, short, table_of

START_S = 120.0


@pytest.fixture(scope="module")
def server(two_loads, tmp_path_factory):
    """The address of an MLflow server on the store."""
    tracking, _ = two_loads
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = open(tmp_path_factory.mktemp("mlflow") / "server.log", "w")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        tracking.uri,
        "--port",
        str(port),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes, for no page
    process = subprocess.Popen([*command, "--workers", "1"], env=environment, stdout=log, stderr=log)
    address, until = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    try:
        while True:
            try:
                urlopen(f"{address}/health", timeout=5).close()
                break
            except (URLError, OSError):
                assert process.poll() is None and time.monotonic() < until, "the MLflow server did not start"
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()


@pytest.fixture(scope="module")
def tab(server, page):
    """A browser's tab; `page` has logged the report to the sweep."""
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1440, "height": 1000})
        tab.set_default_timeout(PATIENCE_MS)
        yield tab


def test_the_table_of_runs_names_the_sweep_and_its_numbers(tab, server, two_loads):
    tracking, sweep_id = two_loads
    tab.goto(table_of(server, "1"))
    tab.get_by_text(f"two-loads {short(sweep_id)}").first.wait_for()
    heads = " ".join(tab.locator(".ag-header-cell").all_inner_texts())
    for word in ("Description", "e2e_mean_s", "preemptions", "answer"):
        assert word in heads, heads


def test_the_sweeps_page_has_the_answer_and_children_by_strategy_and_seed(tab, server, two_loads):
    _, sweep_id = two_loads
    tab.goto(page_of(server, "1", sweep_id))
    tab.get_by_text("too few runs to say what is better").first.wait_for()
    tab.get_by_text("lcf seed=1 mixed 8 req/s").first.wait_for()


def test_the_report_opens_among_the_artifacts(tab, server, two_loads):
    _, sweep_id = two_loads
    tab.goto(page_of(server, "1", sweep_id) + "/artifacts/report/report.html")
    report = tab.frame_locator("iframe")
    report.get_by_role("heading", name="In short").wait_for()
    figures = report.locator("img")
    assert figures.count() >= 9
    assert all(figures.nth(i).evaluate("image => image.naturalWidth") > 100 for i in range(3))
