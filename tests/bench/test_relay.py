"""What a replica of a real fleet passes on of its engine's answer."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ray_jobs.engines.serve.replica import RELAY_S, Asked, Replica
from ray_jobs.workload.trace import TraceRequest

REQUEST = TraceRequest("r0", 0.0, np.arange(4, dtype=np.int32), 5, 5)


class Engine:
    """Says one token at a time; after `dies_after` of them it fails."""

    def __init__(self, wait_s: float, dies_after: int):
        self.wait_s, self.dies_after = wait_s, dies_after

    async def generate(self, request):
        for token in range(request.output_tokens):
            if token == self.dies_after:
                raise ConnectionError("engine gone")
            yield [token]
            await asyncio.sleep(self.wait_s)


async def messages(engine, heard):
    replica = Replica.__new__(Replica)  # its making asks Ray Serve who it is
    replica.number, replica.engine = 1, engine
    async for message in replica.generate(Asked(REQUEST)):
        heard.append(message if message == 1 else [token for _, [token] in message.chunks])


def test_the_first_token_goes_at_once_and_the_rest_together():
    heard = []
    asyncio.run(messages(Engine(0.001, 9), heard))
    assert heard[:2] == [1, [0]] and sum(heard[1:], []) == [0, 1, 2, 3, 4] and len(heard) < 6
    asyncio.run(messages(Engine(1.5 * RELAY_S, 9), heard := []))
    assert heard == [1, [0], [1], [2], [3], [4]]


@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_what_an_engine_said_before_it_failed_is_passed_on(tokens):
    heard = []
    with pytest.raises(ConnectionError, match="engine gone"):
        asyncio.run(messages(Engine(0.001, tokens), heard))
    assert heard[0] == 1 and sum(heard[1:], []) == list(range(tokens))
