from __future__ import annotations

import dataclasses
import pickle
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers_workload import freeze, from_file, mixture

from ray_jobs.workload.config import ArrivalConfig
from ray_jobs.workload.trace import Trace, TraceRequest


def request(**more) -> TraceRequest:
    fields = {
        "request_id": "a",
        "arrival_s": 1.0,
        "prompt_token_ids": [5, 6],
        "output_tokens": 3,
        "max_tokens": 9,
    }
    return TraceRequest(**{**fields, **more})


def trace(**more) -> Trace:
    return Trace("t", 0, (request(**more), request(request_id="b", arrival_s=2.0)))


@pytest.mark.parametrize(
    "change",
    [
        {"request_id": "c"},
        {"arrival_s": 1.0000001},
        {"prompt_token_ids": [5, 7]},
        {"prompt_token_ids": [5, 6, 6]},
        {"output_tokens": 4},
        {"max_tokens": 10},
        {"priority": 1},
        {"deadline_s": 3.0},
        {"kind": "chat"},
        {"warmup": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_change_changes_the_hash(change: dict) -> None:
    assert trace(**change).hash != trace().hash


def test_how_it_is_sent_changes_the_hash_but_its_name_does_not() -> None:
    plain = trace()
    assert dataclasses.replace(plain, closed_loop_users=2).hash != plain.hash
    assert dataclasses.replace(plain, think_time_s=0.5).hash != plain.hash
    assert dataclasses.replace(plain, requests=plain.requests[:1]).hash != plain.hash
    assert dataclasses.replace(plain, name="other", seed=9, meta={"x": 1}).hash == plain.hash


def test_hashed_fields_do_not_run_into_each_other() -> None:
    assert trace(request_id="ac", kind="d").hash != trace(request_id="a", kind="cd").hash


def test_saving_and_loading_gives_the_same_trace(tmp_path) -> None:
    for original in (
        freeze(mixture(warmup_requests=3)),
        freeze(mixture(rate=None, arrivals=ArrivalConfig(kind="closed_loop", users=3, think_time_s=0.25))),
        trace(priority=-2, deadline_s=4.5),
    ):
        path = tmp_path / "strategy=bidkv" / "trace.parquet"
        original.save(path)
        loaded = Trace.load(path)
        assert loaded.hash == original.hash
        for field in ("name", "seed", "closed_loop_users", "think_time_s", "meta"):
            assert getattr(loaded, field) == getattr(original, field)
        for a, b in zip(loaded.requests, original.requests, strict=True):
            assert np.array_equal(a.prompt_token_ids, b.prompt_token_ids)
            for field in dataclasses.fields(a):
                if field.name != "prompt_token_ids":
                    assert getattr(a, field.name) == getattr(b, field.name)
        assert [p.name for p in path.parent.iterdir()] == ["trace.parquet"]
        shutil.rmtree(path.parent)


def test_a_changed_file_is_refused(tmp_path) -> None:
    path = tmp_path / "trace.parquet"
    trace().save(path)
    table = pq.ParquetFile(path).read()
    changed = table.set_column(3, table.schema.field(3), [[4, 3]])
    pq.write_table(changed, path)
    with pytest.raises(ValueError, match="do not match the trace's hash"):
        Trace.load(path)
    pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(ValueError, match="not a trace file of format"):
        Trace.load(path)
    path.write_text("request_id,arrival_s\n")
    with pytest.raises(ValueError, match="not a trace file"):
        Trace.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "trace.parquet"
    trace().save(path)
    before = path.read_bytes()
    broken = dataclasses.replace(trace(), meta={"x": object()})
    with pytest.raises(TypeError):
        broken.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["trace.parquet"]


def test_a_frozen_workload_is_the_saved_trace(tmp_path) -> None:
    original = freeze(mixture(warmup_requests=4))
    path = tmp_path / "trace.parquet"
    original.save(path)
    assert freeze(from_file("frozen", path), seed=5).hash == original.hash
    part = freeze(from_file("frozen", path, num_requests=10, warmup_requests=2))
    assert len(part.requests) == 10 and sum(r.warmup for r in part.requests) == 2
    slow = freeze(from_file("frozen", path, arrivals=ArrivalConfig(kind="replay", time_scale=2.0)))
    assert slow.requests[-1].arrival_s == 2 * original.requests[-1].arrival_s
    with pytest.raises(ValueError, match="engine.max_model_len=64: must be >= "):
        freeze(from_file("frozen", path), model_len=64)
    with pytest.raises(ValueError, match="engine.vocab_size=100: must be > "):
        freeze(from_file("frozen", path), vocab=100)
    with pytest.raises(ValueError, match="workload.num_requests=61: must be <= 60"):
        freeze(from_file("frozen", path, num_requests=61))


def test_it_travels_to_other_processes() -> None:
    original = freeze(mixture())
    assert pickle.loads(pickle.dumps(original)).hash == original.hash


def test_prompts_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        request().prompt_token_ids[0] = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"request_id": ""}, "request_id"),
        ({"arrival_s": -1.0}, "arrival_s"),
        ({"arrival_s": float("nan")}, "arrival_s"),
        ({"prompt_token_ids": []}, "prompt_token_ids"),
        ({"prompt_token_ids": [-1]}, "prompt_token_ids"),
        ({"output_tokens": 0}, "output_tokens"),
        ({"max_tokens": 2}, "max_tokens=2 must be >= output_tokens=3"),
        ({"deadline_s": 0.0}, "deadline_s"),
    ],
)
def test_impossible_requests_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        request(**change)


def test_impossible_traces_are_refused() -> None:
    for requests, message in (
        ((), "no requests"),
        ((request(), request()), "occurs twice"),
        ((request(), request(request_id="b", arrival_s=0.0)), "order of arrival"),
    ):
        with pytest.raises(ValueError, match=message):
            Trace("t", 0, requests)
