"""Starts engines over the nodes of the cluster, and leaves out nodes on which one did not come up."""

from __future__ import annotations

from collections.abc import Callable

from ray_jobs.drive.handle import EngineHandle, StartFailed
from ray_jobs.drive.place import device_kind, suitable_nodes, take_place
from ray_jobs.engines.config import EngineConfig


class EnginePool:
    """Keeps count, by engine configuration, of the nodes on which it does not start."""

    def __init__(self) -> None:
        self._bad: list[tuple[EngineConfig, str]] = []

    def hopeless(self, config: EngineConfig) -> bool:
        """Whether the engine failed to start on every node that could hold it."""
        return all((config, node) in self._bad for node in suitable_nodes(config))

    async def start(self, config: EngineConfig, kind: str | None, say: Callable[[str], None]) -> EngineHandle:
        """An engine that is up, on a device of this `kind` (None: any); waits for a place without a deadline.

        `say` is told of waits and of nodes that are left out. Raises StartFailed when the engine did not
        start anywhere, NoPlaceError when no node is left that could hold it.
        """

        def suits(node: str) -> bool:
            return (config, node) not in self._bad and kind in (None, device_kind(node))

        while True:
            engine = EngineHandle(config, await take_place(config, suits, say))
            try:
                await engine.start()
                return engine
            except StartFailed as error:
                self._bad.append((config, engine.place.node))
                if not any(suits(node) for node in suitable_nodes(config)):
                    raise
                say(f"the engine does not start on node {engine.place.node[:8]}, which is left out: {error}")
