"""Hashes of the blocks of conversations, which need not be computed again for every turn."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from ray_jobs.workload.trace import TraceRequest


class PrefixHashes:
    """What vLLM made of each session's latest prompt. A block's hash says all that stands before it, so a prompt that begins
    with the same tokens has the same hashes for as long."""

    MOST = 1_000_000  # hashes that are remembered, some 70 bytes each; the sessions that were silent for longest go first

    def __init__(self, block_size: int):
        self._block_size = block_size
        self._latest: OrderedDict[str, tuple[np.ndarray, list[bytes]]] = OrderedDict()
        self._count = 0

    def known(self, request: TraceRequest) -> list[bytes]:
        """Those of its first blocks, as far as they are known."""
        if request.session not in self._latest:
            return []
        before, hashes = self._latest[request.session]
        length = min(len(before), len(request.prompt_token_ids))
        differ = before[:length] != request.prompt_token_ids[:length]
        same = int(differ.argmax()) if differ.any() else length
        return hashes[: same // self._block_size]

    def remember(self, request: TraceRequest, hashes: list[bytes]) -> None:
        """`hashes` are of the prompt's full blocks."""
        if not request.session:
            return
        _, before = self._latest.pop(request.session, (None, []))
        self._latest[request.session] = request.prompt_token_ids, hashes
        self._count += len(hashes) - len(before)
        while self._count > self.MOST:
            _, (_, oldest) = self._latest.popitem(last=False)
            self._count -= len(oldest)
