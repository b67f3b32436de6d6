from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_jobs.engines.routers.base import Known, Router
from ray_jobs.engines.routers.news import Block, Cleared, Done, News, Prefilled, Removed, Stored
from ray_jobs.engines.routers.prefix_owners import PrefixOwners
from tracking.errors import require

if TYPE_CHECKING:
    from ray_jobs.workload.trace import TraceRequest

MOST_WEIGHT = 1e6  # far beyond it what is held is lost in the sum's rounding, and at last the sum


class KvAware(Router):
    """Where the prompt costs least: `weight` × the blocks that are still to be prefilled there, its own and those of all who
    wait for their first token, less what that replica's KV cache has of its beginning; and the blocks of the prompts of all
    who are there and of this one, each block once.

    Of equals one at random. What a cache has it learns from the engine's own KV events: it forgets what was evicted, and
    knows nothing of a prompt until it was computed. Tokens of answers take no blocks here, as is Ray's and Dynamo's default.
    Dynamo forgets what stands behind an evicted block, this rule finds it again when that block is back, as the engine does.
    """

    name = "kv-aware"
    source = "Ray Serve LLM's KVAwareRouter: ai-dynamo's SelectionService at temperature 0"
    hears = True

    def __init__(self, replicas: int, pool_tokens: int, seed: int, weight: float = 1.0):
        require(
            0 <= weight <= MOST_WEIGHT, "engine.router.params.weight", weight, f"from 0 to {MOST_WEIGHT:g}"
        )
        super().__init__(replicas, pool_tokens, seed)
        self.weight = weight
        self._cached = PrefixOwners(replicas)
        self._loads = Loads(replicas)

    def listen(self, block_size: int, blocks_of: Callable[[TraceRequest], Sequence[Block]]) -> None:
        self._block_size, self._blocks_of = block_size, blocks_of

    def hear(self, replica: int, news: Sequence[News]) -> None:
        for one in news:
            match one:
                case Stored(blocks):
                    self._cached.add(replica, blocks)
                case Removed(blocks):
                    self._cached.remove(replica, blocks)
                case Cleared():
                    self._cached.clear(replica)
                case Prefilled(request_id):
                    self._loads.prefilled(request_id)
                case Done(request_id):
                    self._loads.free(request_id)

    def choose(self, request: TraceRequest, known: Sequence[Known], now: float) -> int:
        blocks = self._blocks_of(request)
        to_prefill, costs = self._costs(len(request.prompt_token_ids), blocks)
        least = min(costs)
        chosen = self.random.choice([number for number, cost in enumerate(costs) if cost == least])
        self._loads.reserve(request.request_id, chosen, to_prefill[chosen], blocks)
        return chosen

    def _costs(self, tokens: int, blocks: Sequence[Block]) -> tuple[list[int], list[float]]:
        """Of each replica: tokens of this prompt that it has yet to prefill, and what it costs there, in blocks."""
        loads, size = self._loads, self._block_size
        to_prefill = [tokens - depth * size for depth in self._cached.depths(blocks)]
        held = loads.held_with(blocks)
        costs = [
            self.weight * (waiting + own) / size + kept
            for waiting, own, kept in zip(loads.prefill_tokens, to_prefill, held, strict=True)
        ]
        return to_prefill, costs


@dataclass(frozen=True, slots=True)
class Reservation:
    replica: int
    prefill_tokens: int
    blocks: Sequence[Block]


class Loads:
    """What each replica was sent and has not answered yet."""

    def __init__(self, replicas: int):
        self.prefill_tokens = [0] * replicas  # of those without a first token
        self._reserved: dict[str, Reservation] = {}
        self._prefilling: set[str] = set()
        self._owners = PrefixOwners(replicas)
        self._users: list[Counter[Block]] = [Counter() for _ in range(replicas)]

    def held_with(self, blocks: Sequence[Block]) -> list[int]:
        """Different blocks of all prompts on each replica if that of `blocks` were there, too. Who has one has all before it."""
        depths = self._owners.depths(blocks)
        return [len(users) + len(blocks) - depth for users, depth in zip(self._users, depths, strict=True)]

    def reserve(self, request_id: str, replica: int, prefill_tokens: int, blocks: Sequence[Block]) -> None:
        self._reserved[request_id] = Reservation(replica, prefill_tokens, blocks)
        self._prefilling.add(request_id)
        self.prefill_tokens[replica] += prefill_tokens
        self._users[replica].update(blocks)
        self._owners.add(replica, blocks)

    def prefilled(self, request_id: str) -> None:
        if request_id in self._prefilling:
            self._prefilling.remove(request_id)
            reserved = self._reserved[request_id]
            self.prefill_tokens[reserved.replica] -= reserved.prefill_tokens

    def free(self, request_id: str) -> None:
        self.prefilled(request_id)
        reserved = self._reserved.pop(request_id)
        users, last = self._users[reserved.replica], []
        for block in reserved.blocks:
            users[block] -= 1
            if not users[block]:
                del users[block]
                last.append(block)
        self._owners.remove(reserved.replica, last)
