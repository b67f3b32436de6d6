"""The router that knows what each KV cache has: what it hears, and that it chooses as Dynamo's own code does."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from sim_bench import crowded_engine, random_trace, talk
from vllm.distributed.kv_events import AllBlocksCleared, BlockRemoved, BlockStored
from vllm.v1.core.kv_cache_utils import get_block_hash, maybe_convert_block_hash

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.routers.base import Known
from ray_jobs.engines.routers.config import RouterConfig
from ray_jobs.engines.routers.kv_aware import KvAware
from ray_jobs.engines.routers.news import Cleared, Done, Prefilled, Removed, Stored
from ray_jobs.engines.sim import kv_events
from ray_jobs.engines.sim import simulate_fleet as module
from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.engines.sim.replica import Desk

SIZE = 16


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return crowded_engine(tmp_path_factory.mktemp("parts"))


def fleet(engine, tmp_path, trace, strategy="backfill", stale_s=0.0, **sim):
    events = str(tmp_path / f"{stale_s}.jsonl")
    settings = AdapterSettings(strategy, run_id="run", events_path=events, steps_path="memory")
    parts, own = engine
    return module.simulate_fleet(
        parts, replace(own, **sim), trace, settings, 3, RouterConfig("kv-aware", stale_s)
    )


def chain(tokens):
    """Names of full blocks that say what stands before them."""
    names, before = [], ()
    for start in range(0, len(tokens) // SIZE * SIZE, SIZE):
        before = (*before, *tokens[start : start + SIZE])
        names.append(hash(before) & (2**63 - 1))
    return names


def request(number, tokens):
    made = random_trace(0, 1, rate=1, prompt=(10, 20), output=(5, 10)).requests[0]
    return replace(made, request_id=f"r{number}", prompt_token_ids=np.array(tokens, dtype=np.int32))


def made_router(replicas=2, weight=1.0):
    router = RouterConfig("kv-aware", params={"weight": weight}).make(replicas, 1000, 0)
    router.listen(SIZE, lambda one: chain(one.prompt_token_ids.tolist()))
    return router


def choose(router, number, tokens):
    return router.choose(request(number, tokens), [Known()] * router.replicas, 0.0)


def test_it_goes_to_the_cache_that_has_the_beginning_until_that_evicts_it():
    prompt = list(range(100))
    for news, home in (
        ([Stored(chain(prompt))], {1}),
        ([Stored(chain(prompt)), Removed(chain(prompt)[1:])], {1}),  # one block is still there
        ([Stored(chain(prompt)), Removed(chain(prompt)[:1])], {0, 1}),  # the rest is of no use without it
        ([Stored(chain(prompt)), Cleared()], {0, 1}),
        ([], {0, 1}),
    ):
        chosen = set()
        for seed in range(20):
            router = RouterConfig("kv-aware").make(2, 1000, seed)
            router.listen(SIZE, lambda one: chain(one.prompt_token_ids.tolist()))
            router.hear(1, news)
            chosen.add(choose(router, 0, prompt))
        assert chosen == home, news


def test_a_queue_outweighs_a_beginning_and_a_first_token_ends_its_prefill():
    router = made_router()
    prompt, other = list(range(64)), list(range(1000, 1320))
    router.hear(0, [Stored(chain(prompt)), Stored(chain(other))])
    assert choose(router, 0, other + list(range(2000, 2064))) == 0  # 4 of 24 blocks are to be computed there
    # 24 blocks are held and 4 to be prefilled there; 4 blocks found are not worth that.
    assert choose(router, 1, prompt) == 1
    router.hear(0, [Prefilled("r0"), Done("r0")])
    assert choose(router, 2, prompt) == 0
    router.hear(0, [Done("r2")])
    router.hear(1, [Prefilled("r1"), Done("r1")])
    assert router._loads.prefill_tokens == [0, 0] and not any(router._loads._users)
    assert not router._loads._owners._owners and not router._loads._reserved


@pytest.mark.parametrize("shortcuts", [True, False])
def test_it_knows_what_the_engines_have_cached(engine, tmp_path, monkeypatch, shortcuts):
    """At every choice what it heard of a replica, with what a step in flight has yet to publish, is what vLLM's pool finds."""
    pools, make, choose_it, hear = [], module.make_simulation, KvAware.choose, KvAware.hear
    known, removed = [], []

    def keep(*args, **kwargs):
        made = make(*args, **kwargs)
        pools.append(made.scheduler.kv_cache_manager.block_pool)
        return made

    def watch(self, one, states, now):
        for number, pool in enumerate(pools):
            heard = {block for block, owners in self._cached._owners.items() if owners >> number & 1}
            for event in pool.kv_event_queue:
                heard = (
                    heard | set(event.block_hashes)
                    if isinstance(event, BlockStored)
                    else heard - set(event.block_hashes)
                )
            cached = {
                maybe_convert_block_hash(get_block_hash(key))
                for key in pool.cached_block_hash_to_block._cache
            }
            assert heard == cached
            known.append(len(cached))
        return choose_it(self, one, states, now)

    monkeypatch.setattr(module, "make_simulation", keep)

    def count(self, replica, news):
        removed.extend(one for one in news if isinstance(one, Removed))
        hear(self, replica, news)

    monkeypatch.setattr(KvAware, "choose", watch)
    monkeypatch.setattr(KvAware, "hear", count)
    fleet(engine, tmp_path, talk(14), shortcuts=shortcuts)
    assert sum(known) > 20 * len(known) and len(removed) > 100


def test_what_it_hears_is_as_old_as_is_said(engine, tmp_path, monkeypatch):
    """Between two reports it hears nothing; what it sent it knows at once."""
    heard, loaded, choose_it, hear = [], [], KvAware.choose, KvAware.hear
    now = [0.0]

    def listening(self, replica, news):
        heard.append(now[0])
        hear(self, replica, news)

    def chosen(self, one, known, t):
        now[0] = t
        number = choose_it(self, one, known, t)
        loaded.append(self._loads._reserved[one.request_id].replica == number)
        return number

    monkeypatch.setattr(KvAware, "hear", listening)
    monkeypatch.setattr(KvAware, "choose", chosen)
    times = {}
    for stale in (0.0, 0.1, 3600.0):
        heard.clear()
        run = fleet(engine, tmp_path, talk(14), stale_s=stale)
        times[stale] = len(heard)
        reports = 3 * (1 + run.duration_s / stale) if stale else math.inf
        assert bool(heard) == (stale < 3600) and len(heard) <= reports
    assert times[0.0] > 2 * times[0.1] and all(loaded)


def test_layers_that_forget_and_caches_that_find_nothing_are_refused(engine):
    parts = engine[0]
    with pytest.raises(ValueError, match="engine.prefix_caching=false"):
        kv_events.with_kv_events(replace(parts, block_hasher=None))
    (group,) = parts.kv_cache_config.kv_cache_groups
    several = replace(parts.kv_cache_config, kv_cache_groups=[group, group])
    with pytest.raises(ValueError, match="layers that do not keep every token"):
        kv_events.with_kv_events(replace(parts, kv_cache_config=several))


class AsDynamo:
    """In place of a rule's random numbers: of equals it takes Dynamo's choice, which must be one of them."""

    def choose(self, number):
        self.number = number

    def choice(self, equals):
        assert self.number in equals
        self.counts.append(len(equals))
        return self.number

    def __init__(self):
        self.counts = []


@pytest.fixture
def dynamo():
    pytest.importorskip(
        "dynamo.llm", reason="ai-dynamo is not installed: pip install ai-dynamo-runtime ai-dynamo"
    )
    from dynamo_service import Dynamo

    made = []

    def make(workers, block_size):
        made.append(Dynamo(workers, block_size))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.mark.parametrize("weight", [1.0, 0.5, 3.0])
def test_it_chooses_as_dynamo_does_whatever_happens(dynamo, monkeypatch, weight):
    """Random prompts, blocks, first tokens and ends: the same loads to the token, and Dynamo's choice is one of our least."""
    monkeypatch.setenv("DYN_ROUTER_PREFILL_LOAD_SCALE", str(weight))
    workers, draw = 4, np.random.default_rng(int(10 * weight))
    theirs, ours, equals = dynamo(workers, SIZE), made_router(workers, weight), AsDynamo()
    ours.random = equals
    pieces = draw.integers(0, 30000, (6, 24)).tolist()
    caches = [{} for _ in range(workers)]  # of each the tokens up to the end of each block, by its name
    waiting, running, chosen, found = [], [], [], 0
    for step in range(300):
        prompt = [token for piece in draw.integers(0, 6, draw.integers(1, 6)) for token in pieces[piece]]
        prompt = prompt[: len(prompt) - int(draw.integers(0, 9))]
        found += sum(block in caches[0] for block in chain(prompt))
        expected = loads(ours, prompt)
        assert theirs.loads_with(prompt) == expected
        equals.choose(theirs.select(f"r{step}", prompt))
        chosen.append(choose(ours, step, prompt))
        waiting.append((step, chosen[-1], prompt))
        while waiting and draw.random() < 0.45:
            number, worker, computed = waiting.pop(int(draw.integers(len(waiting))))
            theirs.prefilled(f"r{number}")
            ours.hear(worker, [Prefilled(f"r{number}")])
            running.append((number, worker))
            tell(theirs, ours, worker, *computed_there(caches[worker], computed, draw))
        while len(running) > 12 or (running and draw.random() < 0.3):
            number, worker = running.pop(int(draw.integers(len(running))))
            theirs.free(f"r{number}")
            ours.hear(worker, [Done(f"r{number}")])
        if draw.random() < 0.01:
            worker = int(draw.integers(workers))
            caches[worker].clear()
            tell(theirs, ours, worker, [AllBlocksCleared()], [Cleared()])
    assert found > 150 and min(equals.counts) == 1 and len(set(chosen)) == workers


def loads(router, prompt):
    """Of each replica, tokens to prefill and blocks held, were the prompt there, too."""
    blocks = chain(prompt)
    to_prefill, _ = router._costs(len(prompt), blocks)
    waiting = (a + b for a, b in zip(router._loads.prefill_tokens, to_prefill, strict=True))
    return list(zip(waiting, router._loads.held_with(blocks), strict=True))


def computed_there(cache, prompt, draw):
    """A prompt's new blocks, and some that are evicted for them, those that stand behind others first, as vLLM does."""
    names, events, news = chain(prompt), [], []
    new = [place for place, name in enumerate(names) if name not in cache]
    if new:
        first = new[0]
        assert new == list(range(first, len(names)))
        tokens = prompt[first * SIZE : len(names) * SIZE]
        events.append(stored(names[first:], names[first - 1] if first else None, tokens))
        news.append(Stored(names[first:]))
        cache.update({name: prompt[: (place + 1) * SIZE] for place, name in enumerate(names)})
    while len(cache) > 40:
        behind = {name for tokens in cache.values() for name in chain(tokens)[:-1]}
        ends = sorted(set(cache) - behind)
        gone = ends[int(draw.integers(len(ends)))]
        del cache[gone]
        events.append(BlockRemoved(block_hashes=[gone], medium="GPU", group_idx=0))
        news.append(Removed([gone]))
    return events, news


def stored(names, parent, tokens):
    return BlockStored(
        block_hashes=names, parent_block_hash=parent, token_ids=tokens, block_size=SIZE, lora_id=None, medium="GPU",
        lora_name=None, group_idx=0, kv_cache_spec_kind="full_attention",
    )  # fmt: skip


def tell(theirs, ours, worker, events, news):
    if events:
        theirs.tell(worker, events)
        ours.hear(worker, news)


@pytest.mark.parametrize("strategy", ["stock", "backfill", "kept-first"])
def test_a_simulated_fleet_goes_where_dynamo_sends_it(engine, tmp_path, monkeypatch, dynamo, strategy):
    """Dynamo gets vLLM's own batches over ZMQ, and chooses first."""
    theirs, equals, batches = dynamo(3, SIZE), AsDynamo(), []
    make, publish = kv_events.Publisher.__init__, kv_events.Publisher.publish
    hear, choose_it = KvAware.hear, KvAware.choose

    def made(self, tell):
        make(self, tell)
        self.batches = []
        batches.append(self.batches)

    def published(self, batch):
        self.batches.append(list(batch.events))
        publish(self, batch)

    def heard(self, replica, news):
        for one in news:
            if isinstance(one, Prefilled):
                theirs.prefilled(one.request_id)
            elif isinstance(one, Done):
                theirs.free(one.request_id)
        hear(self, replica, news)

    def chosen(self, one, known, now):
        for number, waiting in enumerate(batches):
            for events in waiting:
                theirs.tell(number, events)
            waiting.clear()
        self.random = equals
        equals.choose(theirs.select(one.request_id, one.prompt_token_ids.tolist()))
        return choose_it(self, one, known, now)

    monkeypatch.setattr(kv_events.Publisher, "__init__", made)
    monkeypatch.setattr(kv_events.Publisher, "publish", published)
    monkeypatch.setattr(KvAware, "hear", heard)
    monkeypatch.setattr(KvAware, "choose", chosen)
    run = fleet(engine, tmp_path, talk(14), strategy=strategy)
    assert run.status == "finished" and len(equals.counts) == len(run.logs)
    assert sum(e["cached"] for e in run.events if e["type"] == "request") > 1000
    assert sum(count == 1 for count in equals.counts) > len(run.logs) / 2


def test_whoever_gives_up_is_done():
    trace, news = random_trace(0, 1, rate=1, prompt=(10, 20), output=(5, 10)), []
    clients = VirtualClients(trace, 0.5)
    desk = Desk(clients, news)
    (log,) = clients.send(clients.next_send())
    desk.put(log, log.sent_t)
    assert list(desk.send(log.sent_t)) == [log]
    desk.receive("r0000", 1, False, log.sent_t + 0.1)
    desk.receive("r0000", 1, False, log.sent_t + 0.2)
    assert list(desk.give_up(log.sent_t + 1)) == ["r0000"]
    assert news == [Prefilled("r0000"), Done("r0000")]
