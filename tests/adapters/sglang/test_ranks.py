"""Several schedulers that decide alike (tensor parallelism), and several that share a server (data parallelism)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from recordings import check_sums, steps

from bidkv.adapters.sglang.ranks import Ranks, Tick
from bidkv.adapters.shared.control import ControlFile, write_control
from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.errors import BidKVError, BidValidationError

FIRST = AdapterSettings("backfill")


def two_ranks(path: Path | None = None) -> tuple[Ranks, Ranks]:
    """The second rank has a clock of its own, which is far behind, and would read another file."""
    times = iter(range(100, 200))
    control = ControlFile(path) if path is not None else None
    other = ControlFile(path.with_name("other.json")) if path is not None else None
    return (
        Ranks(FIRST, control, lambda: float(next(times))),
        Ranks(AdapterSettings("lcf"), other, lambda: 1.0),
    )


def say(first: Ranks, second: Ranks, current: AdapterSettings | None = FIRST) -> Tick:
    tick = first.say(current)
    for rank in (first, second):
        rank.hear(tick)
    return tick


def test_all_ranks_have_the_time_and_the_first_settings_of_one() -> None:
    first, second = two_ranks()
    say(first, second, None)
    assert first.now() == second.now() == 100.0 == second.now()
    assert second.first == FIRST
    say(first, second)
    assert first.now() == second.now() == 101.0


def test_all_ranks_get_new_settings_in_the_same_round(tmp_path: Path) -> None:
    path = tmp_path / "control.json"
    first, second = two_ranks(path)
    say(first, second, None)
    assert first.update(FIRST) is None and second.update(FIRST) is None
    write_control(path, {"strategy": "lcf"})
    assert first.update(FIRST) is None, "the file counts when all have been told of it"
    say(first, second)
    write_control(path, {"strategy": "no such"})
    assert first.update(FIRST) == second.update(FIRST) == AdapterSettings("lcf")
    say(first, second)
    for rank in (first, second):
        with pytest.raises(BidKVError, match="no such"):
            settings = rank.update(FIRST)
            settings.build()
        assert rank.update(FIRST) is None


def test_settings_that_this_engine_cannot_take_are_refused_on_each_rank() -> None:
    def check(settings: AdapterSettings) -> None:
        raise BidValidationError("not here")

    rank = Ranks(FIRST, None, check=check)
    rank.hear(Tick(1.0, AdapterSettings("lcf").to_dict()))
    with pytest.raises(BidValidationError, match="not here"):
        rank.update(FIRST)


# -- real engines --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """SGLang on the CPU: two engines of two ranks each behind one server, and pools too small for their seats."""
    import sglang
    from hooks import Hooks

    folder = tmp_path_factory.mktemp("ranks")
    control, events = folder / "control.json", folder / "events.jsonl"
    write_control(
        control,
        AdapterSettings("backfill", run_id="ranks", events_path=str(events), client_facts=True),
    )
    patch = pytest.MonkeyPatch()
    hooks = Hooks()
    hooks.remember()
    patch.setenv("BIDKV_CONTROL_FILE", str(control))
    patch.delenv("BIDKV_TRUSTED_CONTROL", raising=False)
    patch.setenv("BIDKV_RECORD", str(folder / "record"))
    patch.setenv("SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION", "8")
    patch.setenv("SGLANG_CPU_OMP_THREADS_BIND", "0|0|0|0")
    built = sglang.Engine(
        model_path=str(tiny_model),
        skip_tokenizer_init=True,
        load_format="dummy",
        dtype="float32",
        device="cpu",
        attention_backend="torch_native",
        max_total_tokens=640,
        max_running_requests=12,
        context_length=512,
        chunked_prefill_size=128,
        mem_fraction_static=0.9,
        log_level="error",
        tp_size=2,
        dp_size=2,
    )
    hooks.remove()  # the engine's are in other processes
    try:
        yield SimpleNamespace(engine=built, control=control, folder=folder)
    finally:
        built.shutdown()
        patch.undo()


def ask(engine: Any, count: int, prefix: str, at: dict[int, Any]) -> dict[str, int]:
    """Lengths of the outputs by id; writes the control file once so many requests have ended."""
    draw = Random(7)

    async def one(number: int) -> tuple[str, int]:
        prompt = [draw.randrange(3, 512) for _ in range(draw.choice((20, 90, 300)))]
        params = {"temperature": 0.0, "max_new_tokens": draw.choice((20, 60, 120))}
        answer = await engine.engine.async_generate(
            input_ids=prompt, sampling_params=params, rid=f"{prefix}-{number}"
        )
        ended.append(number)
        if len(ended) in at:
            write_control(engine.control, at[len(ended)])
        return f"{prefix}-{number}", len(answer["output_ids"]) - params["max_new_tokens"]

    async def all_of_them() -> dict[str, int]:
        return dict(await asyncio.wait_for(asyncio.gather(*map(one, range(count))), timeout=240))

    ended: list[int] = []
    return engine.engine.loop.run_until_complete(all_of_them())


def records(engine: Any, count: int) -> list[list[dict[str, Any]]]:
    """The events of each engine, once `count` requests have left them: an answer is sent a little earlier."""
    deadline = time.monotonic() + 30
    while True:
        names = sorted(engine.folder.glob("events*.jsonl"))
        events = [read_events(name) for name in names]
        left = [event["id"] for each in events for event in each if event["type"] == "request"]
        if sum(name.startswith("q-") for name in left) >= count or time.monotonic() > deadline:
            assert [name.name for name in names] == ["events.dp0.jsonl", "events.dp1.jsonl"]
            assert len(left) == len(set(left)), "ranks that decide alike keep one record"
            return events
        time.sleep(0.1)


@pytest.mark.engine
def test_ranks_serve_a_load_that_is_retracted_passed_and_switched(engine: Any) -> None:
    """A divergence would hang tensor-parallel ranks: they wait for each other in every step."""
    changes = {
        6: {"kill_switch": True},
        10: {"strategy": "bidkv2"},
        15: {"strategy": "static-random", "seed": 3},
        20: {"kill_switch": False, "strategy": "backfill"},
    }
    over = ask(engine, 28, "q", changes)
    assert len(over) == 28 and set(over.values()) == {0}
    both = records(engine, 28)
    assert sum(event["type"] == "preempt" for each in both for event in each) > 0
    for rank, each in enumerate(both):
        started = [event for event in each if event["type"] == "run_start"]
        assert [event["strategy"] for event in started] == ["backfill", "bidkv2", "static-random", "backfill"]
        assert {event["rank"] for event in started} == {f"dp{rank}"}
        assert not any(event["type"] in ("strategy_error", "control_error") for event in each)
    time.sleep(1.0)  # what a recording may lose
    requests = check_sums(engine.folder / "record")
    assert len(list((engine.folder / "record").iterdir())) == 2, "ranks that decide alike keep one recording"
    assert len(requests) >= 28 and all(r["seconds"]["prefill"] > 0 for r in requests.values() if r["output"])
    assert all(step["dur"] > 0 for step in steps(engine.folder / "record"))
