from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_jobs.engines.routers.base import Known, Router

if TYPE_CHECKING:
    from ray_jobs.workload.trace import TraceRequest


class LeastKv(Router):
    """The emptiest KV cache, with the prompts that were sent to it since its last report; of equals the shortest queue."""

    name = "least-kv"
    source = "the KV-cache utilisation scorer of llm-d and of the Gateway API's inference extension"

    def choose(self, request: TraceRequest, known: Sequence[Known], now: float) -> int:
        shares = [one.kv_share + one.sent_tokens / self.pool_tokens for one in known]
        least = min(shares)
        return self.shortest(known, [number for number, share in enumerate(shares) if share == least])
