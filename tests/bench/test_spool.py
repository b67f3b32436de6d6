"""Results wait in the spool until the store has them, and go there once, whatever breaks off."""

from __future__ import annotations

import errno
import multiprocessing
import shutil
import time
from dataclasses import replace

import psutil
import pytest
from commands import empty_store
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tracking.store.columns import KIND, TAG
from tracking.store.config import TrackingConfig
from tracking.store.lease import Lease
from tracking.store.record import Record, RunFacts, TraceFacts
from tracking.store.spool import Spool, waiting_spools
from tracking.store.upload import bring, upload_waiting
from tracking.store.writer import SweepStore


@pytest.fixture
def tracking(tmp_path):
    shutil.copy(empty_store(), tmp_path)
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
        assert "away" in upload_waiting(spool, tracking)
    assert len(spool.pending()) == 1
    assert upload_waiting(spool, tracking) is None
    assert sorted(run.info.status for run in children(store)) == ["FINISHED", "KILLED", "KILLED"]
    assert list(store.finished()) == ["lcfseed=0"] and store.finished()["lcfseed=0"].metrics == {
        "e2e_mean_s": 1.5
    }


def test_a_record_that_is_made_again_is_one_record(store, tracking):
    spool = Spool(tracking.spool, store.sweep_id)
    spool.open(tracking)
    for _ in range(2):  # the recorder died after it had written it, and its call was tried again
        spool.put(a_run(store.sweep_id))
    assert len(spool.pending()) == 1
    assert upload_waiting(spool, tracking) is None
    spool.put(a_run(store.sweep_id))  # and here it died after the upload
    assert upload_waiting(spool, tracking) is None
    assert len(children(store)) == 1
    assert spool.note("ideal.0", {"decode_s": 1.0}) == spool.note("ideal.0", None) == {"decode_s": 1.0}


def test_what_waits_counts_as_done_and_an_old_end_does_not_end_what_goes_on(store, tracking):
    spool = Spool(tracking.spool, store.sweep_id)
    spool.open(tracking)
    spool.put(a_run(store.sweep_id))
    spool.put(a_run(store.sweep_id, "bidkv seed=0", status="FAILED"))
    spool.put(Record(store.sweep_id, "KILLED", 1000, 3000))
    assert list(spool.finished()) == ["lcfseed=0"]
    assert spool.finished()["lcfseed=0"].tags == {"strategy": "lcf", "engine": "vllm"}
    spool.drop_end()
    assert len(spool.pending()) == 2


def test_the_same_sweep_goes_on_until_it_has_finished_and_is_a_new_one_then(store, tracking):
    store.client.set_terminated(store.sweep_id, "KILLED")
    again = SweepStore(tracking)
    again.open("hash", "sweep", {})
    assert again.sweep_id == store.sweep_id
    again.client.set_terminated(again.sweep_id, "FINISHED")
    new = SweepStore(tracking)
    new.open("hash", "sweep", {})
    assert new.sweep_id != store.sweep_id


def test_a_full_disk_leaves_no_half_record(store, tracking, monkeypatch):
    spool = Spool(tracking.spool, store.sweep_id)
    spool.open(tracking)

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr("pathlib.Path.write_bytes", full)
        spool.put(a_run(store.sweep_id))
    assert spool.pending() == [] and {p.name for p in spool.folder.iterdir()} == {"store.json", "open"}


def test_the_folder_of_a_sweep_that_runs_stays(store, tracking):
    running = Spool(tracking.spool, store.sweep_id)
    running.open(tracking)
    running.put(a_run(store.sweep_id))
    (waiting,) = waiting_spools(tracking.spool)
    assert bring(waiting) is None and waiting.pending() == []  # bidkv-upload, or another sweep beside it
    running.put(a_run(store.sweep_id, "bidkv seed=0"))
    assert len(waiting_spools(tracking.spool)) == 1
    assert bring(waiting) is None
    running.close()
    assert not running.folder.exists()


def test_the_lease_of_a_living_process_is_respected_and_that_of_a_dead_one_is_not(store, tracking):
    mine = Lease.mine()
    assert mine.alive() and Lease.of(mine.tags) == mine
    assert not replace(mine, created=mine.created - 100).alive()  # the pid is somebody else's by now
    elsewhere = replace(mine, machine="elsewhere", pid=1)  # nobody here can look for its process
    assert elsewhere.alive() and not replace(elsewhere, heartbeat=0.0).alive()
    other = replace(mine, pid=1, created=psutil.Process(1).create_time())
    store._tag(store.sweep_id, other.tags)
    with pytest.raises(ValueError, match="running already: process 1 on"):
        SweepStore(tracking).open("hash", "sweep", {})


def test_who_was_taken_for_dead_notices_and_does_not_take_the_sweep_back(store):
    heartbeat = store.beat()
    heartbeat.look()
    assert heartbeat.taken_by is None
    thief = replace(Lease.mine(), machine="elsewhere", pid=7)
    store._tag(store.sweep_id, thief.tags)
    heartbeat.look()
    heartbeat.stop()
    assert heartbeat.taken_by == thief
    assert Lease.of(store.client.get_run(store.sweep_id).data.tags) == thief


def test_of_several_commands_at_once_one_has_the_sweep(tmp_path):
    """On a store that is not there yet. Processes, since threads of one process share a lease."""
    fresh = TrackingConfig(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts"))
    context = multiprocessing.get_context("fork")
    with context.Pool(3) as pool:
        for interrupted in (False, True):
            if interrupted:
                pool.apply(interrupt, [fresh])
            answers = pool.starmap(open_and_say, [(fresh, f"{interrupted}")] * 3, chunksize=1)
            assert sum(answer == "mine" for answer in answers) == 1, answers
            assert sum("running already: process" in answer for answer in answers) == 2, answers


def test_another_command_that_makes_the_experiment_meanwhile_is_no_error(tmp_path, monkeypatch):
    config = TrackingConfig(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts"))
    create, tag = MlflowClient.create_experiment, MlflowClient.set_experiment_tag

    def twice(function):
        def both(*arguments, **named):
            function(*arguments, **named)  # the other command's
            return function(*arguments, **named)

        return both

    def tag_that_is_there(client, experiment_id, key, value):
        tag(client, experiment_id, key, value)
        raise MlflowException("UNIQUE constraint failed: experiment_tags.key")

    monkeypatch.setattr(MlflowClient, "create_experiment", twice(create))
    monkeypatch.setattr(MlflowClient, "set_experiment_tag", tag_that_is_there)
    store = SweepStore(config)
    assert store.client.get_experiment(store.experiment_id).name == config.experiment
    assert {TAG, KIND} <= set(store.client.get_experiment(store.experiment_id).tags)

    def refuses(*_):
        raise MlflowException("no")

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuses)
    monkeypatch.setattr("tracking.store.columns.COLUMNS", ("metrics.`preemptions`",))
    with pytest.raises(ValueError, match="tracking.uri=.*: no"):
        SweepStore(config)


def interrupt(tracking):
    store = SweepStore(tracking)
    store.open("True", "sweep", {})
    store.client.set_terminated(store.sweep_id, "KILLED")


def open_and_say(tracking, sweep_hash):
    try:
        SweepStore(tracking).open(sweep_hash, "sweep", {})
    except ValueError as error:
        return str(error)
    time.sleep(1.0)  # the process takes no other task while this one lasts: each opens once
    return "mine"


def test_artifacts_of_an_experiment_stay_in_one_place(store, tracking, tmp_path):
    moved = TrackingConfig(tracking.uri, str(tmp_path / "elsewhere"), spool=tracking.spool)
    with pytest.raises(ValueError, match="tracking.artifact_root=.*elsewhere.*must be"):
        SweepStore(moved)
