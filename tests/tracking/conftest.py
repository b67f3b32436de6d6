"""One small store and its report, for all tests of pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_command import report
from synthetic_store import log_sweep

from tracking.store.address import short
from tracking.store.config import TrackingConfig


@pytest.fixture(scope="session")
def two_loads(tmp_path_factory) -> tuple[TrackingConfig, str]:
    """A store with one sweep of three strategies on two loads: how to reach it, and the sweep's id."""
    folder = tmp_path_factory.mktemp("report-store")
    return log_sweep(folder, seeds=range(2), rates=(3.0, 8.0), requests=60, name="two-loads")


@pytest.fixture(scope="session")
def page(two_loads, tmp_path_factory) -> Path:
    """The folder of that sweep's report."""
    tracking, sweep_id = two_loads
    folder = tmp_path_factory.mktemp("page")
    done = report(f"tracking.uri={tracking.uri}", "sweep=two-loads", f"folder={folder}")
    assert done.returncode == 0, done.stderr
    where = folder / f"two-loads-{short(sweep_id)}"
    assert f"{where.as_uri()}/report.html" in done.stdout
    return where
