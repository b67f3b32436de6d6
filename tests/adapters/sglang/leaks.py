"""What is left of many requests."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from random import Random
from typing import Any

from sglang.srt.managers.schedule_batch import Req

from bidkv.adapters.sglang.requests import SGLangAccount
from bidkv.request import RequestState


def kept_after(scheduler: Any, adapter: Any, count: int) -> dict[str, int]:
    """Runs `count` short requests, some retracted and some aborted, and counts what of them is still alive.

    `others` are entries beyond the number of seats in the dictionaries, lists and sets of both policies.
    """
    draw, number = Random(1), 0

    def before(_round: int) -> Sequence[Any]:
        nonlocal number
        batch: list[Any] = []
        while number < count and len(scheduler.waiting_queue) + len(batch) < 24:
            name = f"leak-{number:06}"
            prompt = [draw.randrange(3, 512) for _ in range(draw.randint(2, 40))]
            batch.append(scheduler.request(name, prompt, draw.randint(1, 24)))
            if number % 17 == 5:
                batch.append(scheduler.abort(name))
            number += 1
        return batch

    scheduler.limit = 5_000 + 20 * count
    scheduler.run(before, lambda: number < count)
    scheduler.last_batch = scheduler.cur_batch_for_debug = None
    scheduler.steps, scheduler.history, scheduler.outputs = [], [], {}
    gc.collect()
    alive = gc.get_objects()
    return {
        "accounts": sum(isinstance(each, SGLangAccount) for each in alive) + len(adapter._accounts),
        "states": sum(isinstance(each, RequestState) for each in alive),
        "requests": sum(isinstance(each, Req) and each.rid.startswith("leak-") for each in alive),
        "places": adapter._places.kept,
        "others": sum(
            max(0, entries - scheduler.max_running_requests) for entries in _named(adapter._session.strategy)
        ),
    }


def _named(strategy: Any) -> list[int]:
    """How many entries the containers of a strategy have that name requests."""
    found, seen, rest = [], set(), [strategy.admission, strategy.victim]
    while rest:
        each = rest.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, (dict, list, set, tuple)):
            found.append(sum(isinstance(key, str) and key.startswith("leak-") for key in each))
            rest += each.values() if isinstance(each, dict) else each
        elif hasattr(each, "__dict__") and type(each).__module__.startswith("bidkv"):
            rest += vars(each).values()
    return found
