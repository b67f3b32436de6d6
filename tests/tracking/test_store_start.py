"""The first start of a store: what is killed in between leaves nothing that a later start trips over."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracking.store.client import open_client

ROOT = Path(__file__).parents[2]


def test_a_store_whose_maker_was_killed_is_made_anew(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    code = f"from tracking.store.client import open_client; open_client({uri!r})"
    maker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    maker.kill()
    maker.wait()
    left = {path.name for path in tmp_path.iterdir()}
    assert left and "mlflow.db" not in left
    assert [experiment.name for experiment in open_client(uri).search_experiments()] == ["Default"]
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_store_that_is_half_made_says_what_to_delete(tmp_path):
    file = tmp_path / "mlflow.db"
    with sqlite3.connect(file) as database:
        database.execute("create table secrets (name text)")
    database.close()
    with pytest.raises(ValueError, match=f"delete {file} and run again") as error:
        open_client(f"sqlite:///{file}")
    assert "\n" not in str(error.value)
