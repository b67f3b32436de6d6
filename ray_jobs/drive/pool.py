"""Starts engines over the nodes of the cluster, and leaves out nodes on which one did not come up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ray_jobs.drive.handle import EngineHandle, StartFailed
from ray_jobs.drive.kinds import DeviceKinds
from ray_jobs.drive.place import device_kind, suitable_nodes, take_place
from ray_jobs.engines.config import EngineConfig

STARTS_TRIED = 2  # in a row: a device may need a moment to come free after a crash


class EnginePool:
    """Keeps count, by engine configuration and node, of the starts in a row that failed."""

    def __init__(self) -> None:
        self._failures: Counter[tuple[str, str]] = Counter()

    def bad(self, config: EngineConfig, node: str) -> bool:
        """Whether the node is left out for this engine."""
        return self._failures[repr(config), node] >= STARTS_TRIED

    def hopeless(self, config: EngineConfig) -> bool:
        """Whether every node that could hold the engine is left out."""
        return all(self.bad(config, node) for node in suitable_nodes(config))

    async def start(
        self, config: EngineConfig, cell: str, kinds: DeviceKinds, say: Callable[[str], None]
    ) -> EngineHandle:
        """An engine that is up, on a device of the kind that `cell` has; waits for a place without a deadline.

        `say` is told of waits and of starts that failed. Raises StartFailed when the engine did not start
        anywhere, NoPlaceError when no node is left that could hold it.
        """

        def suits(node: str) -> bool:
            return not self.bad(config, node) and kinds.suits(cell, device_kind(node))

        while True:
            engine = EngineHandle(config, await take_place(config, suits, say))
            node = engine.place.node
            kinds.take(cell, engine.device_kind)
            try:
                await engine.start()
            except BaseException as error:
                kinds.failed(cell)
                if not isinstance(error, StartFailed):
                    raise
                self._failures[repr(config), node] += 1
                if not any(suits(other) for other in suitable_nodes(config)):
                    raise
                ending = "which is left out" if self.bad(config, node) else "which is tried once more"
                say(f"the engine does not start on node {node[:8]}, {ending}: {error}")
            else:
                kinds.started(cell)
                self._failures[repr(config), node] = 0
                return engine
