"""Many small requests through one scheduler: what of them is left at the end."""

from __future__ import annotations

import gc
import random
import weakref
from pathlib import Path

from vllm.v1.request import RequestStatus

from fuzz.bench import Bench
from fuzz.cases import Engine
from fuzz.check import facts_settings
from fuzz.oracles import remnants

ENGINE = Engine(blocks=130, seats=64, budget=2048, caching=True)
WAITING = 100  # requests that wait or run at a time: more than there is memory for


def leftovers(strategy: str, requests: int, model: Path) -> list[str]:
    """What is wrong after `requests` of one to three blocks, of which one in ten is aborted."""
    rng = random.Random(strategy)
    settings = {"strategy": strategy, **dict.fromkeys(facts_settings(), True)}
    bench = Bench(model, ENGINE, settings)
    scheduler, alive, ids = bench.scheduler, [], set()
    bench.model.next_drafts = None
    while len(ids) < requests or scheduler.requests:
        while len(ids) < requests and len(scheduler.requests) < WAITING:
            name = f"r{len(ids)}"
            ids.add(name)
            prompt = [rng.randrange(3, 2000) for _ in range(rng.choice([4, 20, 40]))]
            output = rng.choice([1, 1, 2, 12])
            facts = {"max_tokens": rng.choice([output, 64, 1000]), "true_output_tokens": output}
            request = bench.request(name, prompt, output, arrival=bench.time, facts=facts)
            alive.append(weakref.ref(request))
            scheduler.add_request(request)
            del request
        if rng.random() < 0.1:
            scheduler.finish_requests([rng.choice([*scheduler.requests])], RequestStatus.FINISHED_ABORTED)
        bench.settle(bench.schedule())
        bench.forget()
    bench.finish()
    bench.settle(bench.schedule())
    bench.finish()
    problems = [f"kept: {path}" for path in sorted(remnants(scheduler, ids))]
    gc.collect()
    left = sum(ref() is not None for ref in alive)
    return problems + ([f"{left} requests are alive"] if left else [])
