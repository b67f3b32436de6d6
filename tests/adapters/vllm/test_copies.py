"""What vLLM's own manager of host memory has copies of, and what leaves it first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed")
pytest.importorskip(
    "vllm.v1.kv_offload.cpu.policies.factory", reason="this vLLM notes a use of the whole chain itself"
)
from vllm.v1.kv_offload.base import ReqContext, make_offload_key
from vllm.v1.kv_offload.cpu.manager import CPUOffloadingManager

from bidkv.adapters.vllm.memory.copies import HostCopies, host_copies

CHAIN = [b"a", b"ab", b"abc", b"abcd"]
KEYS = [make_offload_key(block_hash, 0) for block_hash in CHAIN]


class Host:
    """Room for four blocks, in which a conversation's first turn left its four."""

    def __init__(self) -> None:
        self.manager = CPUOffloadingManager(4)
        self.request("first", stores=KEYS)
        self.scheduler = SimpleNamespace(
            manager=self.manager,
            config=SimpleNamespace(
                kv_group_configs=[SimpleNamespace(tokens_per_chunk=16, hashes_per_chunk=1)]
            ),
            _req_status={},
        )
        self.copies = HostCopies(self.scheduler, 1)

    def request(self, name: str, stores: Any = (), loads: Any = (), on_device: int = 0) -> None:
        """A request that starts, loads, stores and ends."""
        context = ReqContext(name)
        for place, key in enumerate(KEYS):
            context.set_offload_key_position(key, place)
        self.manager.on_new_request(context)
        if on_device:
            group = SimpleNamespace(offload_keys=KEYS)
            self.scheduler._req_status[name] = SimpleNamespace(group_states=[group], req_context=context)
            self.copies.used(name, 16 * on_device)
        if loads:
            self.manager.prepare_load(loads, context)
            self.manager.complete_load(loads, context)
        if stores:
            assert self.manager.prepare_store(stores, context) is not None
            self.manager.complete_store(stores, context)
        self.manager.on_request_finished(context)


@pytest.mark.parametrize(
    ("told", "left"), [(False, [False, False, True, True]), (True, [True, True, False, False])]
)
def test_the_beginning_that_the_device_had_stays_before_what_was_loaded_behind_it(
    told: bool, left: Any
) -> None:
    host = Host()
    host.request("next", loads=KEYS[2:], on_device=2 if told else 0)
    host.request("other", stores=[make_offload_key(b"x", 0), make_offload_key(b"xy", 0)])
    assert [host.copies._has(CHAIN, place) for place in range(4)] == left
    assert host.copies.leading(CHAIN, 4, 0) == (2 if told else 0)


@pytest.mark.parametrize("known", range(5))
def test_what_was_likely_is_no_more_than_a_hint(known: int) -> None:
    host = Host()
    assert [host.copies.leading(CHAIN, length, known) for length in range(5)] == [0, 1, 2, 3, 4]
    host.request("other", stores=[make_offload_key(b"x", 0)])
    assert host.copies.leading(CHAIN, 4, known) == 3


def test_who_does_not_tell_is_not_asked() -> None:
    host = Host()
    assert host_copies(SimpleNamespace(connector_scheduler=host.scheduler)) is not None
    assert host_copies(SimpleNamespace()) is None
    host.manager.counts = {}  # counts who asks
    assert host_copies(SimpleNamespace(connector_scheduler=host.scheduler)) is None
