"""Several of vLLM's real schedulers on one virtual time behind a router."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import ray
from sim_bench import crowded_engine, random_trace, talk

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.routers.base import Known
from ray_jobs.engines.routers.config import RouterConfig, router_classes
from ray_jobs.engines.routers.prefix_affinity import PrefixTree
from ray_jobs.engines.sim.simulate import simulate
from ray_jobs.engines.sim.simulate_fleet import simulate_fleet

POWER = RouterConfig("power-of-two")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return crowded_engine(tmp_path_factory.mktemp("parts"))


def load(seed: int = 0, count: int = 120, rate: float = 400):
    return random_trace(seed, count, rate=rate, prompt=(10, 90), output=(20, 120), shared=64)


def fleet(engine, tmp_path, trace, replicas, name="run", strategy="backfill", router=POWER, **more):
    settings = AdapterSettings(
        strategy, run_id=name, events_path=str(tmp_path / f"{name}.jsonl"), steps_path="memory"
    )
    return simulate_fleet(*engine, trace, settings, replicas, router, **more)


@pytest.mark.parametrize("trace", [load(), talk(14)], ids=["open", "sessions"])
@pytest.mark.parametrize("strategy", ["preempt-evict", "backfill"])
@pytest.mark.parametrize("timeout", [1e9, 0.3])
@pytest.mark.parametrize("router", ["power-of-two", "kv-aware"])
def test_one_replica_is_the_engine_alone(engine, tmp_path, trace, strategy, timeout, router):
    settings = AdapterSettings(
        strategy, run_id="run", events_path=str(tmp_path / "alone.jsonl"), steps_path="memory"
    )
    alone = simulate(*engine, trace, settings, timeout)
    one = fleet(
        engine, tmp_path, trace, 1, strategy=strategy, router=RouterConfig(router), request_timeout_s=timeout
    )
    assert one.steps.drop(columns="replica").equals(alone.steps)
    for ours, theirs in zip(one.events[1:-1], alone.events[1:-1], strict=True):
        assert {k: v for k, v in ours.items() if k != "replica"} == theirs
    for ours, theirs in zip(one.logs, alone.logs, strict=True):
        same = ("status", "sent_t", "first_token_t", "finish_t", "output_tokens")
        assert [repr(getattr(ours, k)) for k in same] == [repr(getattr(theirs, k)) for k in same]
        assert np.array_equal(ours.itl_s, theirs.itl_s)
    assert one.duration_s == alone.duration_s and one.status == alone.status


@pytest.mark.parametrize("name", sorted(router_classes()))
def test_each_request_is_served_once_and_runs_repeat(engine, tmp_path, name):
    trace = talk(14)
    first, again = (
        fleet(engine, tmp_path, trace, 3, name=f"{name}-{run}", router=RouterConfig(name, 0.05))
        for run in range(2)
    )
    assert first.status == "finished" and all(log.status == "ok" for log in first.logs)
    served = Counter(e["id"] for e in first.events if e["type"] == "request")
    assert set(served.values()) == {1} and len(served) == len(trace.requests)
    assert len({e["replica"] for e in first.events[1:-1]}) > 1
    assert first.steps.equals(again.steps) and first.duration_s == again.duration_s
    assert first.events[-1]["requests"] == len(trace.requests)
    by_id = {log.request.request_id: log for log in first.logs}
    for log in first.logs:  # nobody is asked before the answer it goes on from
        for parent in log.request.parents:
            assert by_id[parent].finish_t <= log.sent_t


def test_a_session_stays_where_it_began_and_finds_its_prefix(engine, tmp_path):
    cached = {}
    for router in ("round-robin", "sticky"):
        run = fleet(engine, tmp_path, talk(14), 3, name=router, router=RouterConfig(router))
        cached[router] = sum(e["cached"] for e in run.events if e["type"] == "request")
        if router == "sticky":
            where = {e["id"]: e["replica"] for e in run.events if e["type"] == "request"}
            homes = {(log.request.session, where[log.request.request_id]) for log in run.logs}
            assert len(homes) == len({session for session, _ in homes}) > 3
    assert cached["sticky"] > 1.2 * cached["round-robin"]


def test_prefix_affinity_goes_where_a_beginning_went_unless_queues_differ(engine):
    one, other = load(1).requests[0], load(2).requests[0]  # another beginning
    router = RouterConfig("prefix-affinity", params={"imbalance": 3}).make(2, 1000, 0)
    even = [Known(), Known()]
    home = router.choose(one, even, 0.0)
    assert router.choose(other, even, 0.0) == 1 - home
    assert [router.choose(request, even, 0.0) for request in (one, other, one)] == [home, 1 - home, home]
    assert router.choose(one, [Known(9 * (number == home)) for number in range(2)], 0.0) == 1 - home


def test_who_sees_queues_keeps_them_even(engine, tmp_path):
    trace = load(3, 240, 250)
    long = [
        replace(r, output_tokens=(tokens := 100 if n % 4 == 0 else 10), max_tokens=tokens)
        for n, r in enumerate(trace.requests)
    ]
    means = {}
    for router in ("round-robin", "least-requests", "power-of-two"):
        run = fleet(
            engine,
            tmp_path,
            replace(trace, requests=tuple(long)),
            4,
            name=router,
            router=RouterConfig(router),
        )
        means[router] = float(np.mean([log.finish_t - log.sent_t for log in run.logs]))
    assert means["least-requests"] < means["power-of-two"] < means["round-robin"]


def test_what_a_router_knows_is_as_old_as_is_said(engine, tmp_path, monkeypatch):
    seen = []
    cls = router_classes()["least-requests"]
    choose = cls.choose

    def watch(self, request, known, now):
        seen.append((now, [(k.requests, k.sent) for k in known]))
        return choose(self, request, known, now)

    monkeypatch.setattr(cls, "choose", watch)
    fleet(engine, tmp_path, load(1), 2, router=RouterConfig("least-requests", 0.1))
    reports = {}
    for now, known in seen:
        reports.setdefault(int(now / 0.1), set()).add(tuple(requests for requests, _ in known))
    assert len(reports) > 2 and all(len(states) == 1 for states in reports.values())


def test_least_kv_counts_what_it_sent(engine):
    router = RouterConfig("least-kv").make(2, 1000, 0)
    request = load().requests[0]
    assert router.choose(request, [Known(9, 0.2), Known(1, 0.1, sent=1, sent_tokens=200)], 0.0) == 0


def test_a_run_that_takes_too_long_ends_with_all_accounted_for(engine, tmp_path):
    run = fleet(engine, tmp_path, load(), 2, run_timeout_s=0.3)
    assert run.status == "timeout" and run.duration_s == 0.3
    sent = [log for log in run.logs if log.status != "not sent" and log.sent_t == log.sent_t]
    assert any(log.status == "timeout" for log in sent)


def test_the_tree_finds_what_rays_own_finds(monkeypatch):
    """Ray's compares letters; on prompts of whole pieces both match as much, and name the same owners."""
    ray_tree = rays_tree(monkeypatch)
    ours = PrefixTree(3)
    ray_tree.add_tenants(["0", "1", "2"], 0)
    rng = np.random.default_rng(0)
    pieces = rng.integers(0, 2000, (6, PrefixTree.PIECE))
    for step in range(200):
        prompt = pieces[rng.integers(0, 6, rng.integers(1, 5))].reshape(-1)
        text = "".join(chr(0xE000 + token) for token in prompt)
        matched, owners = ours.longest(prompt)
        theirs, tenants = ray_tree.prefix_match(text)
        whole = len(theirs) // PrefixTree.PIECE * PrefixTree.PIECE
        assert matched == whole
        if whole == len(theirs) and whole:
            assert owners == sorted(map(int, tenants))
        replica = int(rng.integers(0, 3))
        ours.add(prompt, replica)
        ray_tree.insert(text, str(replica), step)
    assert sorted(map(str, ours.smallest())) == sorted(ray_tree.get_smallest_tenants())


def rays_tree(monkeypatch):
    """From Ray's own file. Its package imports Ray Serve's server, whose dependencies nothing here needs."""
    for name in ("ray.serve", "ray.serve._private"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    constants = ModuleType("ray.serve._private.constants")
    constants.SERVE_LOGGER_NAME = "ray.serve"
    monkeypatch.setitem(sys.modules, constants.__name__, constants)
    folder = Path(ray.__file__).parent / "llm/_internal/serve/routing_policies/prefix_aware"
    spec = spec_from_file_location("rays_prefix_tree", folder / "prefix_tree.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PrefixTree()
