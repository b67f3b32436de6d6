"""Dynamo's own selection service beside a router of ours, fed as a server feeds it: vLLM's event batches over ZMQ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec
import zmq
from vllm.distributed.kv_events import BlockStored, KVEventBatch

WHOM = {"model_name": "default", "tenant_id": "default"}


class Dynamo:
    """One service for `workers` engines; what it is told has reached it when a method returns."""

    def __init__(self, workers: int, block_size: int):
        from dynamo.llm import SelectionService

        self._workers, self._block_size = workers, block_size
        self._loop = asyncio.new_event_loop()
        self._service = self._do(lambda: _made(SelectionService))
        self._context = zmq.Context()
        self._sockets = [self._context.socket(zmq.PUB) for _ in range(workers)]
        self._numbers = [count() for _ in range(workers)]
        self._marks = count(1)
        self._encode = msgspec.msgpack.Encoder().encode
        for worker, socket in enumerate(self._sockets):
            port = socket.bind_to_random_port("tcp://127.0.0.1")
            self._ask(
                "upsert_worker",
                worker_id=worker, endpoint=f"ray://{worker}", block_size=block_size, max_num_batched_tokens=8192,
                data_parallel_start_rank=0, data_parallel_size=1, kv_events_endpoints={0: f"tcp://127.0.0.1:{port}"},
            )  # fmt: skip
            self.tell(worker, [])

    def tell(self, worker: int, events: Sequence[Any]) -> None:
        """Publishes a batch, and a block that nobody else has until the service knows of it."""
        if events:
            self._publish(worker, events)
        mark = [2**31 + next(self._marks)] * self._block_size
        stored = BlockStored(
            block_hashes=[2**40 + mark[0]], parent_block_hash=None, token_ids=mark, block_size=self._block_size,
            lora_id=None, medium="GPU", lora_name=None, group_idx=0, kv_cache_spec_kind="full_attention",
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self._publish(worker, [stored])  # a socket that is not connected yet drops it
            for _ in range(20):
                if self._has(worker, mark):
                    return
                time.sleep(0.001)
        raise TimeoutError(f"the service did not hear of worker {worker}'s events")

    def select(self, request_id: str, tokens: list[int]) -> int:
        """The worker; its load is booked."""
        return self._ask("select_and_reserve", selection_id=request_id, token_ids=tokens)["worker_id"]

    def loads_with(self, tokens: list[int]) -> list[tuple[int, int]]:
        """Of each worker, tokens to prefill and blocks held, were the prompt there, too."""
        loads = self._ask("potential_loads", token_ids=tokens)
        found = {
            one["worker_id"]: (one["potential_prefill_tokens"], one["potential_decode_blocks"])
            for one in loads
        }
        return [found[worker] for worker in range(self._workers)]

    def prefilled(self, request_id: str) -> None:
        self._do(lambda: self._service.prefill_complete(request_id))

    def free(self, request_id: str) -> None:
        self._do(lambda: self._service.free_reservation(request_id))

    def end(self) -> None:
        self._service.shutdown()
        self._context.destroy(linger=0)
        self._loop.close()

    def _has(self, worker: int, tokens: list[int]) -> bool:
        found = self._ask("overlap_scores", token_ids=tokens)["workers"]
        return any(one["device_blocks"] for one in found if one["worker_id"] == worker)

    def _publish(self, worker: int, events: Sequence[Any]) -> None:
        batch = self._encode(KVEventBatch(ts=0.0, events=list(events), data_parallel_rank=0))
        number = next(self._numbers[worker]).to_bytes(8, "big")
        self._sockets[worker].send_multipart((b"", number, batch))

    def _ask(self, method: str, **what: Any) -> Any:
        return self._do(lambda: getattr(self._service, method)(WHOM | what))

    def _do(self, make: Any) -> Any:
        async def run() -> Any:
            return await make()

        return self._loop.run_until_complete(run())


async def _made(cls: Any) -> Any:
    return cls(indexer_threads=1)
