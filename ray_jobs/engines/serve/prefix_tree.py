"""What Ray Serve LLM's prefix affinity knows of prompts: an actor of its own, which outlives runs and applications."""

from __future__ import annotations

import time
from collections.abc import Sequence

import ray
from ray.serve._private.constants import SERVE_NAMESPACE


class PrefixTree:
    """That of the application `name` and its deployment of that name."""

    def __init__(self, name: str):
        self._actor = ray.get_actor("LlmPrefixTreeActor", namespace=f"{SERVE_NAMESPACE}::{name}::{name}")

    async def clear(self, tenants: Sequence[str]) -> None:
        """Forgets what they were sent: their engines' caches are empty, too."""
        await self._actor.remove_tenants.remote(list(tenants))
        await self._actor.add_tenants.remote(list(tenants), time.time())

    def end(self) -> None:
        ray.kill(self._actor)
