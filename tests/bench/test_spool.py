"""Results wait in the spool until the store has them, and go there once, whatever breaks off."""

from __future__ import annotations

import errno

import psutil
import pytest
from mlflow.exceptions import MlflowException

from tracking.store.config import TrackingConfig
from tracking.store.lease import Lease
from tracking.store.record import Record, RunFacts, TraceFacts
from tracking.store.spool import Spool, waiting_spools
from tracking.store.upload import upload_waiting
from tracking.store.writer import SweepStore


@pytest.fixture
def tracking(tmp_path):
    return TrackingConfig(
        f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts"), spool=str(tmp_path / "spool")
    )


@pytest.fixture
def store(tracking):
    store = SweepStore(tracking)
    store.open("hash", "sweep", {})
    return store


def a_run(sweep_id, name="lcf seed=0", status="FINISHED"):
    facts = RunFacts(name, name.replace(" ", ""), {"engine": {"kind": "vllm"}}, {"strategy": "lcf"},
                     TraceFacts("mixed", 0, "0" * 64, 1, 2, 3))  # fmt: skip
    return Record(
        sweep_id, status, 1000, 2000, facts, {"engine": "vllm"}, {"e2e_mean_s": 1.5}, {"a/b.txt": b"x"}
    )


def children(store):
    return store.client.search_runs([store.experiment_id], "tags.`bidkv.kind` = 'run'")


def test_a_record_is_in_the_store_as_it_was_spooled(store, tracking, tmp_path):
    spool = Spool(tracking.spool, store.sweep_id)
    spool.open(tracking)
    spool.put(Record(store.sweep_id, "FINISHED", 1000, 3000, files={"summary.txt": b"table"}))
    spool.put(a_run(store.sweep_id))
    assert [s.sweep_id for s in waiting_spools(tracking.spool)] == [store.sweep_id]
    assert upload_waiting(spool, spool.store()) is None
    assert waiting_spools(tracking.spool) == []
    (run,) = children(store)
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", 1000, 2000)
    assert run.data.metrics == {"e2e_mean_s": 1.5} and run.data.params == {"engine.kind": "vllm"}
    path = store.client.download_artifacts(run.info.run_id, "a/b.txt", str(tmp_path))
    assert open(path).read() == "x"
    assert store.client.get_run(store.sweep_id).info.end_time == 3000


def test_an_upload_that_broke_off_is_done_again_and_counted_once(store, tracking, monkeypatch):
    spool = Spool(tracking.spool, store.sweep_id)
    spool.open(tracking)
    spool.put(a_run(store.sweep_id))

    def away(self, run_id, folder):
        raise MlflowException("the server is away")

    with monkeypatch.context() as broken:
        broken.setattr("mlflow.tracking.MlflowClient.log_artifacts", away)
        assert "away" in upload_waiting(spool, tracking)
    assert len(spool.pending()) == 1
    assert upload_waiting(spool, tracking) is None
    assert sorted(run.info.status for run in children(store)) == ["FINISHED", "KILLED"]


def test_a_full_disk_leaves_no_half_record(store, tracking, monkeypatch):
    spool = Spool(tracking.spool, store.sweep_id)
    spool.open(tracking)

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr("pathlib.Path.write_bytes", full)
        spool.put(a_run(store.sweep_id))
    assert spool.pending() == [] and {p.name for p in spool.folder.iterdir()} == {"store.json"}


def test_the_lease_of_a_living_process_is_respected_and_that_of_a_dead_one_is_not(store, tracking):
    mine = Lease.mine()
    assert mine.alive() and Lease.of(mine.tags) == mine
    assert not Lease(
        mine.host, mine.pid, mine.created - 100, 0, 0
    ).alive()  # the pid is somebody else's by now
    assert not Lease("elsewhere", 1, 0, 0, 0).alive()
    other = Lease(mine.host, 1, psutil.Process(1).create_time(), 0, 0)
    store._tag(store.sweep_id, other.tags)
    with pytest.raises(ValueError, match="running already: process 1 on"):
        SweepStore(tracking).open("hash", "sweep", {})


def test_artifacts_of_an_experiment_stay_in_one_place(store, tracking, tmp_path):
    moved = TrackingConfig(tracking.uri, str(tmp_path / "elsewhere"), spool=tracking.spool)
    with pytest.raises(ValueError, match="tracking.artifact_root=.*elsewhere.*must be"):
        SweepStore(moved)
