"""What a killed driver leaves on a machine: the next engine that starts there ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ray_jobs.drive.scratch import OWNER, claimed_folder, end_abandoned
from ray_jobs.engines.shared.output import SCRATCH_VARIABLE
from tracking.store.lease import PREFIX as LEASE


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def abandoned(temporary, name: str, **changes):
    """The folder of a process that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    mine = claimed_folder()
    changes = {LEASE + key: str(value) for key, value in ({"pid": ended.pid} | changes).items()}
    owner = json.loads((mine / OWNER).read_text()) | changes
    (mine / OWNER).write_text(json.dumps(owner))
    return mine.rename(temporary / f"bidkv-{name}")


def test_the_folder_and_the_engine_of_a_dead_actor_go(temporary):
    left = abandoned(temporary, "left")
    engine = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env={**os.environ, SCRATCH_VARIABLE: str(left)},
    )
    end_abandoned()
    assert not left.exists() and engine.wait(timeout=30) != 0


def test_what_somebody_owns_stays(temporary):
    mine, reused = claimed_folder(), abandoned(temporary, "reused", pid=os.getpid(), created=0.0)
    others = [abandoned(temporary, "elsewhere", machine="another machine"), temporary / "bidkv-nobody"]
    others[1].mkdir()
    end_abandoned()
    assert mine.exists() and all(other.exists() for other in others)
    assert not reused.exists()  # another process has its number now
