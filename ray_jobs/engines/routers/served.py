"""Which of the rules Ray Serve has itself, for real engines; the names are its own classes'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Served:
    """Where its class is, what it calls the rule's parameters, and a package and its version that it needs beside Ray's."""

    path: str
    names: dict[str, str]
    package: str = ""
    version: str = ""

    def arguments(self, params: dict[str, Any]) -> dict[str, Any]:
        return {self.names[key]: value for key, value in params.items() if key in self.names}


SERVED = {
    "power-of-two": Served("ray.serve._private.request_router:PowerOfTwoChoicesRequestRouter", {}),
    "prefix-affinity": Served(
        "ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router:PrefixCacheAffinityRouter",
        {"match": "match_rate_threshold", "imbalance": "imbalanced_threshold"},
    ),
    "kv-aware": Served(
        "ray.llm._internal.serve.routing_policies.kv_aware.kv_aware_router:KVAwareRouter",
        {},  # its weight is Dynamo's
        "ai-dynamo-runtime",
        "1.6.1",
    ),
}
"""By `engine.router.name`."""
