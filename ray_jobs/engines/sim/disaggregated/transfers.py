"""KV on its way from a prefill engine to a decode engine: vLLM's NIXL connector decides, the transfers are simulated.

The scheduler side of the connector runs unchanged inside both schedulers: what is held, pulled and freed is its decision.
This is its worker side: when a pull has ended. What a step's end reports is known then only, since another engine may
begin a pull while the step runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vllm.v1.outputs import KVConnectorOutput


class Held:
    """Of a prefill engine: requests that are done here and whose blocks wait to be pulled."""

    def __init__(self) -> None:
        self._held: dict[str, None] = {}
        self._ends: dict[str, float] = {}  # of pulls

    @property
    def busy(self) -> bool:
        return bool(self._held)

    def next_end(self) -> float | None:
        """When the next of the pulls that are known ends; None if there is none."""
        return min((end for name, end in self._ends.items() if name in self._held), default=None)

    def begin_step(self, metadata: Any, t: float) -> float:
        """Takes note of what is to be sent; the step need not wait."""
        self._held.update(dict.fromkeys(metadata.reqs_to_send))
        return t

    def pulled(self, request_id: str, end: float) -> None:
        """A decode engine says when it will have all that it wants."""
        self._ends[request_id] = end

    def end_step(self, t: float) -> None:
        """Nothing: see `ended`."""

    def ended(self, t: float) -> KVConnectorOutput | None:
        """Whose blocks are needed no more by `t`, to be told once."""
        names = [name for name in self._held if self._ends.get(name, math.inf) <= t]
        for name in names:
            del self._held[name], self._ends[name]
        # In a set their order, and with it that of the free blocks, would differ from process to process.
        return KVConnectorOutput(finished_sending=names) if names else None


class Pulls:
    """Of a decode engine: pulls one prompt's blocks after another. `sources` are the prefill engines' `Held` by engine id."""

    def __init__(self, sources: dict[str, Held], seconds_per_block: float):
        self._sources, self._seconds_per_block = sources, seconds_per_block
        self._under_way: dict[str, float] = {}  # when each ends
        self._free_t = 0.0
        self.asked: list[str] = []  # ids of engines that were told of a pull; whoever looks clears it

    @property
    def busy(self) -> bool:
        return bool(self._under_way)

    def next_end(self) -> float | None:
        """When the next pull ends; None if there is none."""
        return min(self._under_way.values(), default=None)

    def begin_step(self, metadata: Any, t: float) -> float:
        """Starts the pulls of a step that begins at `t`; the step need not wait.

        Where nothing is left to pull, the prefill engine is told at once: all of it was cached here, or nobody waits for it.
        """
        for name, what in metadata.reqs_to_recv.items():
            blocks = sum(len(group) for group in what.local_block_ids)
            end = t
            if blocks:
                self._free_t = end = max(t, self._free_t) + blocks * self._seconds_per_block
                self._under_way[name] = end
            self._sources[what.remote.engine_id].pulled(what.remote.request_id, end)
            self.asked.append(what.remote.engine_id)
        return t

    def end_step(self, t: float) -> None:
        """Nothing: see `ended`."""

    def ended(self, t: float) -> KVConnectorOutput | None:
        """Whose prompt is there by `t`, to be told once."""
        names = [name for name, end in self._under_way.items() if end <= t]
        for name in names:
            del self._under_way[name]
        return KVConnectorOutput(finished_recving=names) if names else None


def engine_ids(role: str, count: int) -> Sequence[str]:
    """Their names, for vLLM's connector and for their record files."""
    return [f"{role}{number}" for number in range(count)]
